// Set the colour scheme before the first paint. A classic script, because modules run after it.
// The choice is "light", "dark" or none: the scheme of the system.
(() => {
  const key = "laion-assets-theme";
  const root = document.documentElement;
  const read = () => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // Storage is blocked: the choice lasts until the page is closed.
    }
  };
  const chosen = read();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  const current = () => root.dataset.theme ?? (systemIsDark.matches ? "dark" : "light");

  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => {
      const other = current() === "dark" ? "light" : "dark";
      button.title = `Use the ${other} colour scheme`;
      button.setAttribute("aria-label", button.title);
    };
    button.addEventListener("click", () => {
      const wanted = current() === "dark" ? "light" : "dark";
      const isSystem = wanted === (systemIsDark.matches ? "dark" : "light");
      if (isSystem) delete root.dataset.theme;
      else root.dataset.theme = wanted;
      try {
        if (isSystem) localStorage.removeItem(key);
        else localStorage.setItem(key, wanted);
      } catch {
        // See above.
      }
      label();
    });
    systemIsDark.addEventListener("change", label);
    label();
  });
})();
