// Keeps a page up to date: what the server draws anew takes the place of what stands here. All works without it, too.
"use strict";

const main = document.querySelector("main");

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }
}

function isInUse(part) {
  const selected = getSelection();
  return part.contains(document.activeElement) || (selected && !selected.isCollapsed && part.contains(selected.anchorNode));
}

let source = null;
let waiting = null;
let polling = null;
let followed = "";
const drawn = new Map(); // what the server said of each part last

async function renew() {
  waiting = null;
  let answer;
  try {
    answer = await fetch(location.href, { headers: { accept: "text/html" } });
  } catch {
    return; // the service is away: the next event or look tries again
  }
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  let held = false;
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(part.id);
    if (!next || next.outerHTML === drawn.get(part.id)) continue;
    if (isInUse(part)) {
      held = true;
      continue;
    }
    const open = new Set([...part.querySelectorAll("details[open]")].map((details) => details.id));
    drawn.set(part.id, next.outerHTML);
    for (const details of next.querySelectorAll("details")) details.open = open.has(details.id) || details.open;
    localTimes(next);
    part.replaceWith(next);
    slide(next);
  }
  const shown = fresh.querySelector("main");
  follow(shown);
  if (!shown.dataset.poll && !held) clearInterval(polling);
}

function slide(root) {
  const slider = root.querySelector("[data-slider]");
  if (!slider) return;
  slider.hidden = false;
  const links = [...root.querySelectorAll("[data-step]")];
  const image = root.querySelector(".samples img, img");
  const range = slider.querySelector("input");
  const show = (at) => {
    const link = links[at];
    image.src = link.dataset.image;
    image.alt = `Sample images of step ${link.dataset.step}`;
    slider.querySelector("output").textContent = link.dataset.step;
    range.setAttribute("aria-valuetext", `step ${link.dataset.step}`);
    range.value = at;
    links.forEach((other) => other.toggleAttribute("aria-current", other === link));
    link.setAttribute("aria-current", "true");
  };
  range.addEventListener("input", () => show(Number(range.value)));
  links.forEach((link, at) =>
    link.addEventListener("click", (event) => {
      event.preventDefault();
      show(at);
    }),
  );
}

function soon(ms) {
  waiting ??= setTimeout(renew, ms);
}

function follow(shown) {
  const url = shown?.dataset.events;
  const path = url?.split("?")[0] ?? ""; // what follows says where to begin: a stream that goes on stays
  if (path === followed) return;
  followed = path;
  source?.close();
  source = null;
  if (!url) return;
  source = new EventSource(url);
  for (const type of ["message", "metrics", "phase", "progress", "status", "checkpoint", "best", "sample"]) {
    source.addEventListener(type, () => soon(1500));
  }
}

// A hidden page holds no connection: browsers open six to a host, and other pages need some.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source?.close();
    source = null;
    followed = "";
  } else {
    soon(0);
  }
});

function poll() {
  if (!document.hidden) soon(0);
}

for (const part of document.querySelectorAll("[data-live]")) drawn.set(part.id, part.outerHTML);
if (main?.dataset.events) {
  follow(main);
}
if (main?.dataset.poll) polling = setInterval(poll, 1000 * Number(main.dataset.poll));
localTimes(document);
slide(document);
