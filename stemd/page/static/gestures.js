// Mouse, pen, touch and wheel on an image: pan, pinch, zoom, read out, and whatever a tool wants.

/**
 * `hooks`: hover(event|null) for the read-out; grab(event) may return {move(event), drop()} to
 * take the pointer for itself (a ring, the profile line), else the image is panned.
 */
export function attach(view, hooks = {}) {
  const { canvas } = view;
  const fingers = new Map();
  let held = null;
  let spread = 0;

  const fraction = (event) => {
    const at = view.toImage(event);
    return [at.x / view.frame.w, at.y / view.frame.h];
  };
  const middle = () => {
    const [a, b] = [...fingers.values()];
    const distance = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    const clientX = (a.clientX + b.clientX) / 2;
    return { clientX, clientY: (a.clientY + b.clientY) / 2, distance };
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (!view.frame || (event.pointerType === "mouse" && event.button !== 0)) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, event);
    if (fingers.size === 1) held = hooks.grab?.(event) ?? null;
    if (fingers.size === 2) {
      held?.drop?.();
      held = null;
      spread = middle().distance;
    }
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!view.frame) return;
    const before = fingers.get(event.pointerId);
    if (!before) {
      hooks.hover?.(event);
      return;
    }
    if (held) {
      held.move(event);
    } else if (fingers.size === 2) {
      fingers.set(event.pointerId, event);
      const now = middle();
      if (spread > 0) view.viewport.zoomAt(...fraction(now), now.distance / spread);
      spread = now.distance;
      return;
    } else {
      const size = view.scale / view.ratio;
      const dx = (before.clientX - event.clientX) / size / view.frame.w;
      view.viewport.pan(dx, (before.clientY - event.clientY) / size / view.frame.h);
      hooks.hover?.(event);
    }
    fingers.set(event.pointerId, event);
  });

  const up = (event) => {
    fingers.delete(event.pointerId);
    if (fingers.size === 0) {
      held?.drop?.();
      held = null;
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => hooks.hover?.(null));
  canvas.addEventListener("dblclick", () => view.viewport.fit());
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!view.frame) return;
      event.preventDefault();
      const lines = event.deltaMode === 1 ? event.deltaY * 20 : event.deltaY;
      view.viewport.zoomAt(...fraction(event), Math.exp(-lines / 350));
      hooks.hover?.(event);
    },
    { passive: false },
  );
}
