// What the pictures that readers act on have in common. Scripts come in any order, so each picture's only adds
// its function to `pictures`; once the page is there, this one calls it with the element and its data.
"use strict";
const acting = {
  // An element, of SVG where that has one of this name.
  make(name, attributes = {}, ...children) {
    const svg = ["svg", "g", "rect", "path", "circle", "line", "text", "title"].includes(name);
    const made = document.createElementNS(`http://www.w3.org/${svg ? "2000/svg" : "1999/xhtml"}`, name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.append(...children);
    return made;
  },

  // A button that does something when it is pressed, put into a box.
  pressed(box, text, act) {
    const button = acting.make("button", { type: "button" }, text);
    button.addEventListener("click", act);
    box.append(button);
    return button;
  },

  // Draw again whenever an element has another width.
  redrawn(element, draw) {
    let width = element.clientWidth;
    new ResizeObserver(() => {
      if (element.clientWidth === width) return;
      width = element.clientWidth;
      draw();
    }).observe(element);
  },

  // Draw the pictures that are there and not drawn yet.
  draw() {
    for (const frame of document.querySelectorAll("[data-picture]:not(.drawn)")) {
      const draw = pictures[frame.dataset.picture];
      if (!draw) continue; // in a notebook, its cell has not run yet
      frame.classList.add("drawn");
      draw(frame, JSON.parse(frame.querySelector("script").textContent));
    }
  },
};

document.addEventListener("readystatechange", () => {
  if (document.readyState === "interactive") acting.draw(); // before the repairs of tables
});
