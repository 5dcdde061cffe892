// Two molecules in one 3-D view, drawn on a plain canvas: no WebGL, no library, no network.
// Drag turns, the wheel or a pinch zooms. `data` comes from ase_atom.analysis.report.scene.
function showMolecules(root, data) {
  "use strict";
  const canvas = root.querySelector("canvas");
  const context = canvas.getContext("2d");
  const slider = root.querySelector("input[type=range]");
  const play = root.querySelector("[data-role=play]");
  const clock = root.querySelector("[data-role=time]");
  const speed = root.querySelector("select");
  const atoms = data.numbers.length;
  const models = data.models.map((model) => ({
    ...model,
    shown: true,
    path: decode(model.frames),
  }));
  const frames = data.times.length;
  let turn = [1, 0, 0, 0, 1, 0, 0, 0, 1];
  let zoom = 1;
  let frame = 0;
  let playing = false;
  let before = 0;
  turnBy(-0.35, 0.5);

  // Coordinates travel as 16-bit integers in base64.
  function decode(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float32Array.from({ length: bytes.length / 2 }, (_, i) => view.getInt16(2 * i, true) * data.unit);
  }

  function turnBy(up, right) {
    const [c, s, d, t] = [Math.cos(right), Math.sin(right), Math.cos(up), Math.sin(up)];
    const step = [c, 0, s, t * s, d, -t * c, -d * s, t, d * c];
    const out = new Array(9).fill(0);
    for (let i = 0; i < 3; i++)
      for (let j = 0; j < 3; j++)
        for (let k = 0; k < 3; k++) out[3 * i + j] += step[3 * i + k] * turn[3 * k + j];
    turn = out;
  }

  function project(model, scale, width, height) {
    const places = [];
    for (let atom = 0; atom < atoms; atom++) {
      const at = 3 * (frame * atoms + atom);
      const [x, y, z] = [model.path[at], model.path[at + 1], model.path[at + 2]];
      const depth = turn[6] * x + turn[7] * y + turn[8] * z;
      const near = 1 / (1 - depth / (6 * data.radius)); // a little perspective
      places.push({
        x: width / 2 + scale * near * (turn[0] * x + turn[1] * y + turn[2] * z),
        y: height / 2 - scale * near * (turn[3] * x + turn[4] * y + turn[5] * z),
        depth,
        near,
        atom,
        model,
      });
    }
    return places;
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
      canvas.width = width * ratio;
      canvas.height = height * ratio;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const scale = (0.42 * zoom * Math.min(width, height)) / data.radius;
    const shapes = [];
    for (const model of models) {
      if (!model.shown) continue;
      const places = project(model, scale, width, height);
      for (const place of places) shapes.push({ depth: place.depth, place });
      for (const [i, j] of data.bonds) {
        const [a, b] = [places[i], places[j]];
        shapes.push({ depth: (a.depth + b.depth) / 2 - 0.05, a, b, model });
      }
    }
    shapes.sort((p, q) => p.depth - q.depth);
    for (const shape of shapes) shape.place ? ball(shape.place, scale) : stick(shape, scale);
    clock.textContent = data.times[frame].toFixed(data.digits) + " fs";
    slider.value = frame;
  }

  function ball(place, scale) {
    const radius = place.near * scale * data.radii[place.atom];
    const shine = context.createRadialGradient(
      place.x - radius / 3, place.y - radius / 3, radius / 8, place.x, place.y, radius);
    shine.addColorStop(0, "#ffffff");
    shine.addColorStop(0.35, data.colours[place.atom]);
    shine.addColorStop(1, data.colours[place.atom]);
    context.globalAlpha = place.model.opacity;
    context.beginPath();
    context.arc(place.x, place.y, radius, 0, 2 * Math.PI);
    context.fillStyle = shine;
    context.fill();
    context.lineWidth = 1.6;
    context.strokeStyle = place.model.colour;
    context.stroke();
    context.globalAlpha = 1;
  }

  function stick(shape, scale) {
    context.globalAlpha = shape.model.opacity;
    context.lineWidth = 0.16 * scale * (shape.a.near + shape.b.near) / 2;
    context.lineCap = "round";
    context.strokeStyle = shape.model.colour;
    context.beginPath();
    context.moveTo(shape.a.x, shape.a.y);
    context.lineTo(shape.b.x, shape.b.y);
    context.stroke();
    context.globalAlpha = 1;
  }

  function go(to) {
    frame = ((to % frames) + frames) % frames;
    draw();
  }

  function tick(now) {
    if (!playing) return;
    const wait = 1000 / Number(speed.value);
    if (now - before >= wait) {
      before = now;
      go(frame + 1);
    }
    requestAnimationFrame(tick);
  }

  play.addEventListener("click", () => {
    playing = !playing;
    play.textContent = playing ? "Pause" : "Play";
    if (playing) requestAnimationFrame(tick);
  });
  slider.max = frames - 1;
  slider.addEventListener("input", () => go(Number(slider.value)));
  root.querySelectorAll("[data-model]").forEach((box) =>
    box.addEventListener("change", () => {
      models[Number(box.dataset.model)].shown = box.checked;
      draw();
    }));
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    turnBy(event.movementY / 120, event.movementX / 120);
    draw();
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom = Math.min(6, Math.max(0.3, zoom * Math.exp(-event.deltaY / 600)));
    draw();
  }, { passive: false });
  new ResizeObserver(draw).observe(canvas);
  draw();
  return { go, state: () => ({ frame, playing, turn, zoom, shown: models.map((m) => m.shown) }) };
}
