// Light or dark, before anything is painted: as the reader chose here before, else as the reader's system has it.
//
// Pages opened from disk may be refused a memory; a choice then lasts as long as the page.
"use strict";
(() => {
  const KEY = "exitbench-scheme";
  const MEDIA = { dark: "all", light: "not all" };
  const darkStyle = document.getElementById("dark"); // the dark colours, which hold where its media query does
  const apply = (scheme) => {
    darkStyle.media = MEDIA[scheme] ?? darkStyle.media;
  };

  function remembered() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  }

  function remember(scheme) {
    try {
      localStorage.setItem(KEY, scheme);
    } catch {
      // refused
    }
  }

  apply(remembered());
  document.addEventListener("scheme", ({ detail }) => {
    apply(detail);
    remember(detail);
  });
})();
