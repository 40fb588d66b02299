/* Reductions of rows of logits over the vocabulary, each row while it is in the processor's caches.

   Compiled once for each dtype of logits by native.py, with -DBFLOAT16 or -DFLOAT32. Logits are (rows, vocab), row-major.
   Work on entries is in float32; sums are float32 over BLOCK entries and double beyond. Ties go to the lowest id. A row
   with a NaN, or whose largest entry is infinite, has top id -1. Threads are those of OpenMP that torch uses too. */

#include <math.h>
#include <omp.h>
#include <stdint.h>

enum { BLOCK = 4096, LANES = 64, NONE = -1 };

#ifdef BFLOAT16
typedef uint16_t logit;
static inline float load(const logit *entry) {
    union { uint32_t bits; float value; } word = { (uint32_t)*entry << 16 };
    return word.value;
}
#elif defined FLOAT32
typedef float logit;
static inline float load(const logit *entry) { return *entry; }
#endif

/* exp(x) for x <= 0, to two units in the last place; 0 where that is below the smallest normal number. */
static inline float exp_negative(float x) {
    float within = x < -87.3f ? -87.3f : x;
    float n = __builtin_rintf(within * 1.44269504f);
    float r = (within - n * 0.693145752f) - n * 1.42860677e-6f; /* ln 2 in two parts, n times the first being exact */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union { int32_t bits; float value; } power = { ((int32_t)n + 127) << 23 };
    return x < -87.3f ? 0.0f : p * power.value;
}

static inline float larger(float a, float b) { return a > b ? a : b; }
static inline float smaller(float a, float b) { return a < b ? a : b; }

/* The two largest entries of a stretch, the sum of entry - pivot, and whether one is NaN. */
typedef struct { float first, second; double sum; int has_nan; } Top;

/* The same of every LANES-th entry, lane by lane. */
typedef struct { float first[LANES], second[LANES], sum[LANES]; int32_t nan[LANES]; } Lanes;

static inline void add(Lanes *lanes, const logit *entries, int width, float pivot) {
    for (int j = 0; j < width; j++) {
        float x = load(entries + j);
        lanes->second[j] = larger(lanes->second[j], smaller(x, lanes->first[j]));
        lanes->first[j] = larger(x, lanes->first[j]);
        lanes->sum[j] += x - pivot;
        lanes->nan[j] |= x != x;
    }
}

static inline Top top_of(const logit *entries, int64_t size, float pivot) {
    Lanes lanes;
    for (int j = 0; j < LANES; j++) {
        lanes.first[j] = lanes.second[j] = -INFINITY;
        lanes.sum[j] = 0;
        lanes.nan[j] = 0;
    }
    int64_t whole = size - size % LANES;
    for (int64_t start = 0; start < whole; start += LANES) add(&lanes, entries + start, LANES, pivot);
    add(&lanes, entries + whole, (int)(size - whole), pivot);
    Top top = { -INFINITY, -INFINITY, 0, 0 };
    for (int j = 0; j < LANES; j++) {
        top.second = larger(larger(top.second, lanes.second[j]), smaller(lanes.first[j], top.first));
        top.first = larger(lanes.first[j], top.first);
        top.sum += lanes.sum[j];
        top.has_nan |= lanes.nan[j];
    }
    return top;
}

/* The same of a whole row, and the lowest id of the largest entry. */
static Top top_of_row(const logit *row, int64_t vocab, int32_t *id) {
    Top best = { -INFINITY, -INFINITY, 0, 0 };
    int64_t block_of_best = 0;
    for (int64_t start = 0; start < vocab; start += BLOCK) {
        Top top = top_of(row + start, vocab - start < BLOCK ? vocab - start : BLOCK, load(row));
        if (top.first > best.first) block_of_best = start;
        best.second = larger(larger(best.second, top.second), smaller(top.first, best.first));
        best.first = larger(top.first, best.first);
        best.sum += top.sum;
        best.has_nan |= top.has_nan;
    }
    *id = NONE;
    int is_finite = !best.has_nan && !isinf(best.first);
    for (int64_t i = block_of_best; i < vocab && is_finite; i++)
        if (load(row + i) == best.first) { *id = (int32_t)i; break; }
    return best;
}

/* Top ids of all rows. */
void top_ids(const logit *logits, int64_t rows, int64_t vocab, int64_t threads, int32_t *ids) {
    #pragma omp parallel for num_threads(threads)
    for (int64_t r = 0; r < rows; r++) top_of_row(logits + r * vocab, vocab, ids + r);
}

/* exp(entry - largest) of a whole row, and the sum of that. */
static double exponentials_of_row(const logit *row, int64_t vocab, float largest, float *exponentials) {
    double total = 0;
    for (int64_t start = 0; start < vocab; start += BLOCK) {
        int64_t end = vocab - start < BLOCK ? vocab : start + BLOCK;
        float sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (int64_t i = start; i < end; i++) {
            exponentials[i] = exp_negative(load(row + i) - largest);
            sum += exponentials[i];
        }
        total += sum;
    }
    return total;
}

/* The final distribution of one token: its logits, probabilities, top id, largest logit and mean logit below that. */
typedef struct {
    const logit *row;
    const float *probabilities;
    int64_t top_id;
    float top_logit, shifted_mean;
} Final;

/* What is left of a row; s = logit - largest logit, p = softmax. The fields are those of native.py, in its order. */
typedef struct {
    double top_logit;
    double second_shifted;  /* s of the largest entry beside the one at the top id */
    double log_normaliser;  /* log of the sum of exp(s) */
    double expected;        /* sum of p s */
    double shifted_mean;    /* mean of s */
    double centred_square;  /* sum of (s - mean)^2 */
    double centred_product; /* sum of (s - mean) (final s - its mean) */
    double surprise;        /* sum of p_final (final s - s) */
    double total_variation; /* half the sum of |p - p_final| */
    double final_rank;      /* number of entries larger than the one at the final top id */
    double top_id;
} Reductions;

static Reductions reduce(const logit *row, int64_t vocab, const Final *final, float *exponentials) {
    int32_t id;
    Top top = top_of_row(row, vocab, &id);
    /* Named here and not in the loop, where the compiler would gather them for each entry. */
    const logit *final_row = final->row;
    const float *final_probabilities = final->probabilities;
    float final_top = final->top_logit, final_mean = final->shifted_mean;
    float largest = top.first, of_final = load(row + final->top_id);
    double normaliser = exponentials_of_row(row, vocab, largest, exponentials);
    double mean = (load(row) - largest) + top.sum / vocab;
    float scale = (float)(1 / normaliser), shifted_mean = (float)mean;
    double expected = 0, square = 0, product = 0, surprise = 0, variation = 0, rank = 0;
    for (int64_t start = 0; start < vocab; start += BLOCK) {
        int64_t end = vocab - start < BLOCK ? vocab : start + BLOCK;
        float expectations = 0, squares = 0, products = 0, surprises = 0, differences = 0;
        int32_t larger_ones = 0;
        #pragma omp simd reduction(+ : expectations, squares, products, surprises, differences, larger_ones)
        for (int64_t i = start; i < end; i++) {
            float x = load(row + i), s = x - largest, p = exponentials[i] * scale, centred = s - shifted_mean;
            float final_s = load(final_row + i) - final_top, final_p = final_probabilities[i];
            expectations += p * s;
            squares += centred * centred;
            products += centred * (final_s - final_mean);
            surprises += final_p * (final_s - s);
            differences += __builtin_fabsf(p - final_p);
            larger_ones += x > of_final;
        }
        expected += expectations; square += squares; product += products;
        surprise += surprises; variation += differences; rank += larger_ones;
    }
    return (Reductions){ largest, top.second - largest, log(normaliser), expected, mean, square, product, surprise,
                         variation / 2, rank, id };
}

/* Probabilities (tokens, vocab) of final logits, and their reductions against themselves; room is (threads, vocab). */
void final_reductions(const logit *logits, int64_t tokens, int64_t vocab, int64_t threads, float *room,
                      float *probabilities, Reductions *out) {
    #pragma omp parallel for num_threads(threads)
    for (int64_t t = 0; t < tokens; t++) {
        const logit *row = logits + t * vocab;
        float *of_row = probabilities + t * vocab;
        int32_t id;
        Top top = top_of_row(row, vocab, &id);
        float scale = (float)(1 / exponentials_of_row(row, vocab, top.first, of_row));
        for (int64_t i = 0; i < vocab; i++) of_row[i] *= scale;
        float shifted_mean = (float)((load(row) - top.first) + top.sum / vocab);
        Final final = { row, of_row, id == NONE ? 0 : id, top.first, shifted_mean };
        out[t] = reduce(row, vocab, &final, room + omp_get_thread_num() * vocab);
    }
}

/* KL(a depth || the one before it), (depths - 1, tokens) of (depths, tokens, vocab) logits: of each depth but the first;
   room is (threads, vocab). */
void divergences(const logit *logits, int64_t depths, int64_t tokens, int64_t vocab, int64_t threads, float *room,
                 double *out) {
    #pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t t = 0; t < tokens; t++) {
        float *exponentials = room + omp_get_thread_num() * vocab, largest_before = 0;
        double log_before = 0;
        for (int64_t d = 0; d < depths; d++) {
            const logit *row = logits + (d * tokens + t) * vocab, *before = row - tokens * vocab;
            int32_t id;
            float largest = top_of_row(row, vocab, &id).first;
            double normaliser = exponentials_of_row(row, vocab, largest, exponentials), surprise = 0;
            float scale = (float)(1 / normaliser);
            for (int64_t start = 0; start < vocab && d > 0; start += BLOCK) {
                int64_t end = vocab - start < BLOCK ? vocab : start + BLOCK;
                float sum = 0;
                #pragma omp simd reduction(+ : sum)
                for (int64_t i = start; i < end; i++) {
                    float s = load(row + i) - largest, s_before = load(before + i) - largest_before;
                    sum += exponentials[i] * scale * (s - s_before);
                }
                surprise += sum;
            }
            if (d > 0) out[(d - 1) * tokens + t] = surprise - log(normaliser) + log_before;
            largest_before = largest;
            log_before = log(normaliser);
        }
    }
}

/* Reductions (depths, tokens) of (depths, tokens, vocab) logits, each token's against what final_reductions made of its
   final logits; room is (threads, vocab). */
void reductions(const logit *logits, int64_t depths, int64_t tokens, int64_t vocab, int64_t threads, float *room,
                const logit *final_logits, const float *probabilities, const Reductions *of_final, Reductions *out) {
    #pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t t = 0; t < tokens; t++) {
        int64_t id = (int64_t)of_final[t].top_id;
        Final final = { final_logits + t * vocab, probabilities + t * vocab, id == NONE ? 0 : id,
                        (float)of_final[t].top_logit, (float)of_final[t].shifted_mean };
        for (int64_t d = 0; d < depths; d++)
            out[d * tokens + t] =
                reduce(logits + (d * tokens + t) * vocab, vocab, &final, room + omp_get_thread_num() * vocab);
    }
}
