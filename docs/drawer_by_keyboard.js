// The theme opens the menu of narrow screens by labels, which have no focus.
for (const label of document.querySelectorAll(".md-header label.md-icon")) {
  if (label.getAttribute("for") !== "__drawer") continue;
  label.tabIndex = 0;
  label.setAttribute("role", "button");
  label.setAttribute("aria-label", "Menu");
  label.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    label.click();
  });
}
