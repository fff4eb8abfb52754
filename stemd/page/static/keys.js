// The keyboard: single keys, wherever nothing is being typed or chosen.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function keyboard(actions) {
  const plain = {
    g: actions.grid,
    f: actions.fft,
    p: actions.profile,
    c: actions.map,
    l: actions.log,
    a: actions.past,
    r: actions.replay,
    escape: actions.back,
    "+": actions.zoomIn,
    "=": actions.zoomIn,
    "-": actions.zoomOut,
    0: actions.fit,
    "[": () => actions.step(-1),
    "]": () => actions.step(1),
    "?": actions.help,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    const { target, key } = event;
    if (target.closest?.("input, select, textarea")) return;
    const arrow = ARROWS[key];
    if (arrow) {
      // arrows scroll the page unless the image, or nothing, has the focus
      if (target !== document.body && target.id !== "main") return;
      if (event.shiftKey) actions.cursor(...arrow);
      else actions.pan(...arrow);
      event.preventDefault();
    } else if (/^[1-9]$/.test(key)) {
      actions.pick(Number(key) - 1);
    } else if (plain[key.toLowerCase()]) {
      plain[key.toLowerCase()]();
      event.preventDefault();
    }
  });
}
