"use strict";
const main = document.querySelector("main");
const number = (card, key) => card.dataset[key] === "" ? -Infinity : Number(card.dataset[key]);
document.querySelector("#order").addEventListener("change", (event) => {
  const [key, sign] = event.target.value.split(" ");
  const cards = [...main.children].sort((a, b) => Number(sign) * (number(a, key) - number(b, key)) || number(a, "index") - number(b, "index"));
  main.append(...cards);
});
const compare = document.querySelector("#compare");
if (compare) compare.addEventListener("change", () => main.classList.toggle("compare", compare.checked));
for (const figure of document.querySelectorAll("figure")) {
  const video = figure.querySelector("video"), time = figure.querySelector(".time"), head = figure.querySelector(".head");
  if (!time) continue;
  const length = Number(time.dataset.seconds);
  const draw = () => { head.style.left = `${100 * Math.min(1, video.currentTime / length)}%`; if (!video.paused) requestAnimationFrame(draw); };
  for (const name of ["play", "seeked", "timeupdate"]) video.addEventListener(name, draw);
  time.addEventListener("click", (event) => {
    const box = time.getBoundingClientRect();
    video.currentTime = length * (event.clientX - box.left) / box.width;
  });
}
