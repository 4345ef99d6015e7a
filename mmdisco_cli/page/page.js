"use strict";
const main = document.querySelector("main");
const made = (card) => Number(card.dataset.index);
const valueOf = (card, key) => JSON.parse(card.dataset.values)[key];
const order = document.querySelector("#order");
if (order) order.addEventListener("change", () => {
  const [key, sign] = order.value.split(" ");
  // A clip without the value comes last, whichever way round.
  const by = (a, b) => {
    const [x, y] = [valueOf(a, key), valueOf(b, key)];
    if (x == null || y == null) return (x == null) - (y == null);
    return Number(sign) * (x - y);
  };
  main.append(...[...main.children].sort((a, b) => (key && by(a, b)) || made(a) - made(b)));
});
const compare = document.querySelector("#compare");
if (compare) compare.addEventListener("change", () => main.classList.toggle("compare", compare.checked));
for (const clip of document.querySelectorAll(".clip")) {
  const media = clip.querySelector("video, audio"), time = clip.querySelector(".time"), head = clip.querySelector(".head");
  if (!time) continue;
  const length = Number(time.dataset.seconds);
  const draw = () => { head.style.left = `${100 * Math.min(1, media.currentTime / length)}%`; if (!media.paused) requestAnimationFrame(draw); };
  for (const name of ["play", "seeked", "timeupdate"]) media.addEventListener(name, draw);
  // One clip is heard at a time.
  media.addEventListener("play", () => { for (const other of document.querySelectorAll("video, audio")) if (other !== media) other.pause(); });
  time.addEventListener("click", (event) => {
    const box = time.getBoundingClientRect();
    media.currentTime = length * (event.clientX - box.left) / box.width;
  });
}
