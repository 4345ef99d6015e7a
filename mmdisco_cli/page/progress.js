"use strict";
// The page is written again and again while training goes on; nobody is interrupted who watches or listens.
const again = () => {
  const playing = [...document.querySelectorAll("video, audio")].some((media) => !media.paused);
  if (document.hidden || playing) setTimeout(again, 2000); else location.reload();
};
setTimeout(again, 10000);
