// Read from the disk, the search field would find nothing: it goes.
if (location.protocol === "file:") {
  for (const part of document.querySelectorAll(
    ".md-search, label[for='__search']"
  )) {
    part.remove();
  }
}
