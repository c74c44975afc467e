// Balls and sticks on a canvas. Drag, swipe or use the arrow keys to turn a crystal; double-click or Enter enlarges it.
"use strict";
(() => {
  const source = document.getElementById("crystals");
  if (!source) return;
  const crystals = JSON.parse(source.textContent);
  const INK = "#555";

  const multiply = (a, b) => a.map((row) => [0, 1, 2].map((j) => row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]));
  const apply = (m, v) => m.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
  const turnX = (a) => [[1, 0, 0], [0, Math.cos(a), -Math.sin(a)], [0, Math.sin(a), Math.cos(a)]];
  const turnY = (a) => [[Math.cos(a), 0, Math.sin(a)], [0, 1, 0], [-Math.sin(a), 0, Math.cos(a)]];

  // The twelve edges of a cell, each between two corners.
  function edgesOf(cell) {
    const corner = (i) => [0, 1, 2].map((k) => (i & 1) * cell[0][k] + (i >> 1 & 1) * cell[1][k] + (i >> 2) * cell[2][k]);
    const edges = [];
    for (let i = 0; i < 8; i++) {
      for (const bit of [1, 2, 4]) if (!(i & bit)) edges.push([corner(i), corner(i | bit)]);
    }
    return edges;
  }

  class Viewer {
    constructor(canvas, crystal) {
      this.canvas = canvas;
      this.crystal = crystal;
      this.turn = multiply(turnX(0.35), multiply(turnY(-0.5), [[1, 0, 0], [0, 0, 1], [0, -1, 0]])); // c points up
      this.edges = edgesOf(crystal.cell);
      this.centre = [0, 1, 2].map((k) => (crystal.cell[0][k] + crystal.cell[1][k] + crystal.cell[2][k]) / 2);
      const far = (p) => Math.hypot(...p.map((x, k) => x - this.centre[k]));
      this.reach = 0.6 + Math.max(...this.edges.flat().map(far), ...crystal.atoms.map(far));
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        this.last = event;
      });
      canvas.addEventListener("pointermove", (event) => {
        if (!event.buttons) return;
        this.rotate((event.clientX - this.last.clientX) / 100, (event.clientY - this.last.clientY) / 100);
        this.last = event;
      });
      canvas.addEventListener("dblclick", () => this.enlarge());
      canvas.addEventListener("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.draw()).observe(canvas);
    }

    key(event) {
      const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
      if (step) this.rotate(...step);
      else if (event.key === "Enter") this.enlarge();
      else return;
      event.preventDefault();
    }

    enlarge() {
      this.canvas.closest("figure").classList.toggle("large");
    }

    rotate(right, down) {
      this.turn = multiply(turnX(down), multiply(turnY(right), this.turn));
      this.draw();
    }

    draw() {
      const { canvas, crystal } = this;
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      if (!width) return;
      [canvas.width, canvas.height] = [width * ratio, height * ratio];
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const scale = Math.min(width, height) / 2 / this.reach;
      const place = (p) => {
        const [x, y, z] = apply(this.turn, p.map((value, k) => value - this.centre[k]));
        return { x: width / 2 + scale * x, y: height / 2 - scale * y, z };
      };
      const atoms = crystal.atoms.map((p, i) => ({ ...place(p), ...crystal.elements[crystal.kinds[i]] }));
      const lines = this.edges.map(([a, b]) => ({ a: place(a), b: place(b), edge: true }));
      const sticks = crystal.bonds.map(([i, j]) => ({ a: atoms[i], b: atoms[j] }));
      const depth = (item) => (item.a ? (item.a.z + item.b.z) / 2 : item.z);
      // From back to front, so that what is near covers what is far.
      for (const item of [...lines, ...sticks, ...atoms].sort((s, t) => depth(s) - depth(t))) {
        if (item.edge) this.line(pen, item.a, item.b, INK, 0.8);
        else if (item.a) this.stick(pen, item.a, item.b, scale);
        else this.ball(pen, item, scale);
      }
    }

    line(pen, a, b, colour, width) {
      pen.beginPath();
      pen.moveTo(a.x, a.y);
      pen.lineTo(b.x, b.y);
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.stroke();
    }

    stick(pen, a, b, scale) {
      const middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
      const width = Math.max(1.5, 0.16 * scale);
      this.line(pen, a, b, INK, width + 1);
      this.line(pen, a, middle, a.colour, width);
      this.line(pen, middle, b, b.colour, width);
    }

    ball(pen, atom, scale) {
      const radius = Math.max(2, atom.radius * scale);
      const light = pen.createRadialGradient(
        atom.x - radius / 3, atom.y - radius / 3, radius / 10, atom.x, atom.y, radius);
      light.addColorStop(0, "#fff");
      light.addColorStop(0.35, atom.colour);
      light.addColorStop(1, atom.colour);
      pen.beginPath();
      pen.arc(atom.x, atom.y, radius, 0, 2 * Math.PI);
      pen.fillStyle = light;
      pen.fill();
      pen.strokeStyle = INK;
      pen.lineWidth = 0.8;
      pen.stroke();
      if (radius < 6) return;
      pen.font = `${Math.round(Math.min(radius, 14))}px sans-serif`; // colour alone does not tell elements apart
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.lineWidth = 2;
      pen.strokeStyle = "rgba(255, 255, 255, 0.8)";
      pen.strokeText(atom.symbol, atom.x, atom.y);
      pen.fillStyle = "#000";
      pen.fillText(atom.symbol, atom.x, atom.y);
    }
  }

  // Pages may hold thousands of crystals: each one is set up when it first comes into view.
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      new Viewer(target, crystals[Number(target.dataset.crystal)]);
    }
  }, { rootMargin: "200px" });
  for (const canvas of document.querySelectorAll("canvas[data-crystal]")) seen.observe(canvas);
})();
