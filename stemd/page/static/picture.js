// What is on the screen as one PNG: the large image with its colour bar, or all images.

const BACKGROUND = "#0b0f15";

/** Download a canvas as NAME.png. */
function download(canvas, name) {
  canvas.toBlob((blob) => {
    const anchor = document.createElement("a");
    anchor.href = URL.createObjectURL(blob);
    anchor.download = `${name}.png`;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
  });
}

function sheet(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(width), Math.round(height)];
  const context = canvas.getContext("2d");
  context.fillStyle = BACKGROUND;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return { canvas, context };
}

/** The image as it is seen, with scale bar, rings and colour bar. */
export function saveImage(view, bar, name) {
  const ratio = view.ratio ?? 1;
  const { canvas, context } = sheet(view.canvas.width + bar.width + 8 * ratio, view.canvas.height);
  context.drawImage(view.canvas, 0, 0);
  context.drawImage(bar, view.canvas.width + 8 * ratio, 0);
  download(canvas, name);
}

/** All images of the grid where they stand, each with its name. */
export function saveGrid(grid, cells, name) {
  const ratio = window.devicePixelRatio || 1;
  const box = grid.getBoundingClientRect();
  const { canvas, context } = sheet(grid.scrollWidth * ratio, grid.scrollHeight * ratio);
  context.fillStyle = "#eef3f8";
  context.font = `600 ${13 * ratio}px "Segoe UI", Roboto, "Liberation Sans", sans-serif`;
  for (const { view, button } of cells) {
    const at = view.canvas.getBoundingClientRect();
    const [x, y] = [at.left - box.left + grid.scrollLeft, at.top - box.top + grid.scrollTop];
    context.drawImage(view.canvas, x * ratio, y * ratio);
    context.fillText(button.textContent, (x + 8) * ratio, (y + 18) * ratio);
  }
  download(canvas, name);
}
