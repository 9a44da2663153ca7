// Elements of the page, found and made.

export const $ = (id) => document.getElementById(id);

// An element with properties and children: make("button", { type: "button", className: "plain" }, "Close").
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// A picture, or a video that plays.
export function picture(src, alt) {
  if (/^data:video\/|\.mp4$/.test(src)) {
    return make("video", { src, controls: true, loop: true, muted: true, autoplay: true, playsInline: true, ariaLabel: alt || "video" });
  }
  return make("img", { src, alt });
}
