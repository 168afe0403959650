// Light, dark or the system's choice; remembered where the browser lets a page remember.
{
  const order = ["system", "light", "dark"];
  const button = document.getElementById("theme");
  const kept = () => { try { return localStorage.getItem("statewise-theme"); } catch { return null; } };
  const keep = (choice) => { try { localStorage.setItem("statewise-theme", choice); } catch { /* not allowed here */ } };
  const apply = (choice) => {
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    if (button) button.textContent = `Theme: ${choice}`;
  };
  let current = order.includes(kept()) ? kept() : "system";
  apply(current);
  if (button) {
    button.hidden = false;
    button.addEventListener("click", () => {
      current = order[(order.indexOf(current) + 1) % order.length];
      apply(current);
      keep(current);
    });
  }
}
