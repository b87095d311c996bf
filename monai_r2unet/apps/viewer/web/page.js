// What the page does by itself: theme, keys, uploads. Everything else is asked of the server.
"use strict";
(() => {
  const root = document.documentElement;
  const ask = (name, ...values) => window.trame.trigger(name, values);
  const told = (name) => window.trame.state.get(name);

  // The token has done its work once the cookie is set: it need not be seen, nor stay in the history.
  const address = new URL(location.href);
  address.searchParams.delete("token");
  history.replaceState(null, "", address);

  // ---- theme ----
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = (name) => root.setAttribute("data-theme", name);
  theme(localStorage.getItem("theme") || (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", () => localStorage.getItem("theme") || theme(dark.matches ? "dark" : "light"));

  const enlarge = (view) => {
    const views = document.querySelector(".views");
    if (view === null || views.dataset.large === view) delete views.dataset.large;
    else views.dataset.large = view;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if ("themeSwitch" in button.dataset) {
      const next = root.getAttribute("data-theme") === "dark" ? "light" : "dark";
      localStorage.setItem("theme", next);
      theme(next);
    }
    if (button.dataset.enlarge) enlarge(button.dataset.enlarge);
    if (button.dataset.choose) choose(button.dataset.choose, "folder" in button.dataset);
  });

  // ---- keys ----
  const typing = (element) => element.matches("input:not([type=checkbox]):not([type=range]), select, textarea");
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && typing(event.target)) event.target.blur();
    if (event.ctrlKey || event.altKey || event.metaKey || typing(event.target)) return;
    const view = event.target.dataset && event.target.dataset.view;
    const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -1e6, End: 1e6 };
    if (view && event.key in steps) {
      event.preventDefault();
      ask("slice", view, told("slices")[view].index + steps[event.key]);
      return;
    }
    if (event.key === "0") enlarge(null);
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const meant = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!meant || meant.disabled) return;
    event.preventDefault();
    if (typing(meant)) meant.focus();
    else meant.click();
  });

  // ---- paths ----
  document.addEventListener("submit", (event) => {
    event.preventDefault();
    const path = new FormData(event.target).get("path");
    if ("addBundle" in event.target.dataset) ask("add_bundle", path);
    else ask("open", path, event.target.dataset.open);
  });
  document.addEventListener("input", (event) => {
    if (event.target.getAttribute("list") === "suggestions") ask("suggest", event.target.value);
  });
  document.addEventListener("focusin", (event) => {
    if (event.target.getAttribute("list") === "suggestions") ask("suggest", event.target.value);
  });

  // ---- uploads ----
  const choose = (place, folder) => {
    const input = document.createElement("input");
    input.type = "file";
    input.multiple = place === "image";
    input.webkitdirectory = folder;
    input.addEventListener("change", () => upload([...input.files], place));
    input.click();
  };

  const upload = async (files, place) => {
    files = files.filter((file) => !file.name.startsWith("."));
    if (!files.length) return;
    const batch = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const bytes = files.reduce((sum, file) => sum + file.size, 0);
    if (bytes > told("upload_limit")) {
      ask("complain", `These files have ${Math.round(bytes / 1e6)} MB, more than the viewer takes as an upload: open them by their path.`);
      return;
    }
    const name = files.length === 1 ? files[0].name : (files[0].webkitRelativePath || "").split("/")[0] || `${files.length} files`;
    window.trame.state.set("opening", name);
    try {
      for (const file of files) {
        const answer = await fetch(`upload/${batch}/${encodeURIComponent(file.name)}`, { method: "PUT", body: file });
        if (!answer.ok) throw new Error(await answer.text());
      }
      await ask("uploaded", batch, name, place);
    } catch (error) {
      ask("complain", error.message || String(error));
    } finally {
      window.trame.state.set("opening", "");
    }
  };

  // A dropped folder gives its files only one by one, and in portions.
  const filesOf = async (entry) => {
    if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const portion = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!portion.length) return found;
      for (const one of portion) if (one.isFile) found.push(...(await filesOf(one)));
    }
  };

  let over = 0;
  const dragging = (change) => {
    over = Math.max(0, change === 0 ? 0 : over + change);
    document.body.classList.toggle("dropping", over > 0);
  };
  document.addEventListener("dragenter", (event) => { event.preventDefault(); dragging(1); });
  document.addEventListener("dragleave", () => dragging(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    dragging(0);
    const place = event.target.closest && event.target.closest("#compare") ? "reference" : "image";
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    const plain = [...event.dataTransfer.files]; // what a program drops has no entries
    upload(entries.length ? (await Promise.all(entries.map(filesOf))).flat() : plain, place);
  });
})();
