// What is wrong with the page that is shown; tests/test_browser.py asks. Each
// function returns texts, one for each thing that is wrong.
(() => {
  const OPERABLE =
    "a[href], button, input, select, textarea, summary, [tabindex]";

  const isShown = (element) => {
    const { width, height } = element.getBoundingClientRect();
    const style = { opacityProperty: true, visibilityProperty: true };
    return width > 0 && height > 0 && element.checkVisibility(style);
  };

  const name = (element) => {
    const text = (element.textContent || "").trim().replace(/\s+/g, " ");
    const classes = element.getAttribute("class") || "";
    return `${element.localName}.${classes} ${text.slice(0, 40)}`.trim();
  };

  // Any colour that CSS can name, as red, green, blue and alpha.
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const parsed = (color) => {
    if (!known.has(color)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = color;
      pen.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
      known.set(color, [r, g, b, a / 255]);
    }
    return known.get(color);
  };

  const over = ([r, g, b, a], below) =>
    [r, g, b].map((value, at) => a * value + (1 - a) * below[at]);

  // What is below an element's text, and how much of the text is to be seen.
  const surroundings = (element, found) => {
    if (!element) return { below: [255, 255, 255], share: 1 };
    if (!found.has(element)) {
      const { below, share } = surroundings(element.parentElement, found);
      const { backgroundColor, opacity } = getComputedStyle(element);
      found.set(element, {
        below: over(parsed(backgroundColor), below),
        share: share * opacity,
      });
    }
    return found.get(element);
  };

  // Relative luminance and contrast, as WCAG 2 defines them.
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };

  const contrast = (element, found) => {
    const { fill, color } = getComputedStyle(element);
    const { below, share } = surroundings(element, found);
    const [r, g, b, a] = parsed(element.closest("svg") ? fill : color);
    const lights = [over([r, g, b, a * share], below), below].map(luminance);
    return (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
  };

  const withText = () => {
    const found = new Set();
    const walker = document.createTreeWalker(
      document.body, NodeFilter.SHOW_TEXT
    );
    while (walker.nextNode()) {
      const { data, parentElement } = walker.currentNode;
      if (data.trim() && isShown(parentElement)) found.add(parentElement);
    }
    return [...found];
  };

  const beside = (element) => {
    const next = element.matches("input") && element.nextElementSibling;
    return next && next.matches("label") ? [next] : [];
  };

  // What shows that an input has the focus may be at the label beside it.
  const look = (element) =>
    [element, ...beside(element)].filter(isShown).map((one) => {
      const style = getComputedStyle(one);
      const outline = style.outlineStyle === "none" ? "" : style.outline;
      return [
        outline, style.boxShadow, style.backgroundColor, style.borderColor,
        style.textDecorationLine,
      ].join();
    }).join();

  const operable = () =>
    [...document.querySelectorAll(OPERABLE)].filter(
      (one) => isShown(one) && one.tabIndex >= 0
    );

  window.page = {
    faint: () => {
      const found = new Map();
      return withText()
        .map((one) => [contrast(one, found), one])
        .filter(([ratio]) => ratio < 4.5)
        .map(([ratio, one]) => `${ratio.toFixed(2)}: ${name(one)}`);
    },

    pictures: () =>
      [...document.querySelectorAll("img, svg[role=img]")]
        .filter((one) => {
          const text = one.getAttribute("alt") ?? one.ariaLabel ?? "";
          const size = one.localName === "svg" || one.naturalWidth > 0;
          return !(text.trim() && size && (isShown(one) || one.closest("details")));
        })
        .map((one) => one.outerHTML.slice(0, 100)),

    // What is wider than the window and in no part that can be scrolled.
    overflow: () => {
      const { scrollWidth, clientWidth } = document.documentElement;
      if (scrollWidth <= clientWidth) return [];
      return [`${scrollWidth} pixels in ${clientWidth}`];
    },

    headings: () => {
      const found = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
        .filter(isShown);
      const levels = [0, ...found.map((one) => Number(one.localName[1]))];
      const wrong = found.filter((_, at) => levels[at + 1] > levels[at] + 1);
      const first = levels.filter((level) => level === 1).length === 1;
      return [...(first ? [] : ["not one h1"]), ...wrong.map(name)];
    },

    language: () => (document.documentElement.lang ? [] : ["none is set"]),

    // Notes what can be operated, and how it looks while it has no focus.
    start: () => {
      const still = document.createElement("style");
      still.textContent = "* { transition: none !important }";
      document.head.append(still);
      const scrolled = [...document.querySelectorAll("body *")].filter((one) => {
        const clips = /auto|scroll/.test(getComputedStyle(one).overflowX);
        return clips && isShown(one) && one.scrollWidth > one.clientWidth + 1;
      });
      page.toVisit = new Set([...operable(), ...scrolled]);
      page.looks = new Map(
        [...document.querySelectorAll("body *")].map((one) => [one, look(one)])
      );
      page.unseen = [];
    },

    // Takes note of what has the focus; false where nothing new has.
    visit: () => {
      const one = document.activeElement;
      if (one === document.body || page.visited?.has(one)) return false;
      (page.visited ??= new Set()).add(one);
      if (look(one) === page.looks.get(one)) {
        page.unseen.push(name(one));
      }
      return true;
    },

    unreached: () => {
      const reached = (one) =>
        [...(page.visited ?? [])].some(
          (other) => one === other || one.contains(other)
        );
      return [...page.toVisit].filter((one) => !reached(one)).map(name);
    },
  };
})();
