"use strict";
document.documentElement.classList.add("js");

// Tables: a heading sorts by its column, and the other way round at the second press.
for (const button of document.querySelectorAll(".sortable thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, row = head.parentElement;
    const column = [...row.children].indexOf(head), body = row.closest("table").tBodies[0];
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of row.children) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const value = (line) => line.children[column].dataset.value;
    const compare = button.dataset.kind === "text"
      ? (a, b) => sign * value(a).localeCompare(value(b), "en", { numeric: true })
      : (a, b) => (value(a) === "") - (value(b) === "") || sign * (value(a) - value(b));  // no value: last
    body.append(...[...body.rows].sort(compare));
  });
}

// Charts: the slider and the pointer move a cursor over all charts of a group; legends show the values there.
for (const group of document.querySelectorAll(".chart-group")) {
  const x = JSON.parse(group.dataset.x), places = JSON.parse(group.dataset.places);
  const slider = group.querySelector(".reader input"), output = group.querySelector(".reader output");
  const cursors = group.querySelectorAll(".cursor");
  const entries = [...group.querySelectorAll(".legend li")].map((entry) =>
    [entry.querySelector(".value"), JSON.parse(entry.dataset.values)]);
  const show = (i) => {
    slider.value = i;
    output.textContent = `${group.dataset.label} ${x[i]}`;
    slider.setAttribute("aria-valuetext", output.textContent);
    for (const cursor of cursors) for (const end of ["x1", "x2"]) cursor.setAttribute(end, places[i]);
    for (const [span, values] of entries) span.textContent = values[i];
  };
  slider.addEventListener("input", () => show(+slider.value));
  for (const picture of group.querySelectorAll(".charts figure > svg")) {
    const point = (event) => {
      const box = picture.getBoundingClientRect();
      const at = (event.clientX - box.left) / box.width * picture.viewBox.baseVal.width;
      let nearest = 0;
      places.forEach((place, i) => { if (Math.abs(place - at) < Math.abs(places[nearest] - at)) nearest = i; });
      show(nearest);
    };
    picture.addEventListener("pointermove", point);
    picture.addEventListener("pointerdown", point);
  }
  show(x.length - 1);
}

// Players: frames of bytes through a table of 256 colours onto a canvas.
const played = JSON.parse(document.getElementById("played").textContent);
const SECONDS_A_FRAME = 0.125, WIDTH = 512;
const decoded = {};
function frames(key) {
  decoded[key] ??= Uint8Array.from(atob(played.arrays[key]), (letter) => letter.charCodeAt(0));
  return decoded[key];
}

function colours(panel) {
  const scale = played.scales[panel.kind], table = new Uint8ClampedArray(4 * 256);
  for (let byte = 0; byte < 256; byte++) {
    const value = panel.low + (panel.high - panel.low) * byte / 255;
    const index = Math.round(255 * (value - scale.low) / (scale.high - scale.low));
    const at = 3 * Math.min(255, Math.max(0, index));
    table.set([...scale.colours.slice(at, at + 3), 255], 4 * byte);
  }
  return new Uint32Array(table.buffer);
}

class Player {
  constructor(section, movie) {
    this.movie = movie;
    this.frame = 0;
    this.section = section;
    this.slider = section.querySelector(".time");
    this.button = section.querySelector(".play");
    this.dots = section.querySelector(".dots");
    this.now = section.querySelector(".now");
    this.small = document.createElement("canvas");
    this.small.width = movie.width;
    this.small.height = movie.height;
    this.image = new ImageData(movie.width, movie.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.screens = [...section.querySelectorAll(".panels figure")].map((figure, i) => {
      const canvas = figure.querySelector("canvas"), panel = movie.panels[i];
      canvas.width = WIDTH;
      canvas.height = WIDTH / 2;
      figure.querySelector("img").hidden = true;
      canvas.hidden = false;
      const screen = { canvas, panel, table: colours(panel), value: figure.querySelector(".value"), at: null };
      const point = (event) => { screen.at = event; this.read(screen); };
      canvas.addEventListener("pointermove", point);
      canvas.addEventListener("pointerdown", point);
      canvas.addEventListener("pointerleave", () => { screen.at = null; screen.value.textContent = ""; });
      return screen;
    });
    section.querySelector(".controls").hidden = false;
    this.slider.max = movie.times.length - 1;
    this.slider.addEventListener("input", () => move(this, +this.slider.value));
    this.button.addEventListener("click", () => this.toggle());
    this.dots?.addEventListener("change", () => this.draw());
    this.show(Math.max(0, ...Object.keys(movie.sensors).map(Number)) || movie.times.length - 1);
  }

  toggle() {
    const name = this.section.querySelector("h3").textContent;
    if (this.timer) {
      clearInterval(this.timer);
      this.timer = null;
    } else {
      this.timer = setInterval(() => move(this, (this.frame + 1) % this.movie.times.length), 1000 * SECONDS_A_FRAME);
    }
    this.button.textContent = this.timer ? "Pause" : "Play";
    this.button.setAttribute("aria-label", `${this.button.textContent} ${name}`);
  }

  show(frame) {
    const { times, maer, sensors } = this.movie;
    this.frame = frame;
    this.slider.value = frame;
    const analysis = sensors[frame] ? ", analysis time" : "";
    const error = maer ? `, MAER ${maer[frame].toFixed(3)}` : "";
    this.now.textContent = `t = ${times[frame]}${error}${analysis}${this.section.dataset.suffix}`;
    this.slider.setAttribute("aria-valuetext", this.now.textContent);
    this.draw();
  }

  draw() {
    const { width, height, sensors } = this.movie, size = width * height;
    for (const screen of this.screens) {
      const bytes = frames(screen.panel.frames), start = this.frame * size, pen = screen.canvas.getContext("2d");
      for (let i = 0; i < size; i++) this.pixels[i] = screen.table[bytes[start + i]];
      this.small.getContext("2d").putImageData(this.image, 0, 0);
      pen.imageSmoothingQuality = "high";
      pen.drawImage(this.small, 0, 0, screen.canvas.width, screen.canvas.height);
      if (screen.panel.name === "Analysis mean" && this.dots?.checked) {
        for (const [x, y, set] of sensors[this.frame] ?? []) {
          pen.beginPath();
          pen.arc(x * screen.canvas.width, y * screen.canvas.height, 4, 0, 2 * Math.PI);
          pen.fillStyle = set ? "#fff" : "#000";
          pen.strokeStyle = set ? "#000" : "#fff";
          pen.fill();
          pen.stroke();
        }
      }
      this.read(screen);
    }
  }

  read(screen) {  // the value under the pointer
    if (!screen.at) return;
    const { width, height } = this.movie, box = screen.canvas.getBoundingClientRect();
    const column = Math.floor((screen.at.clientX - box.left) / box.width * width);
    const row = Math.floor((screen.at.clientY - box.top) / box.height * height);
    if (column < 0 || row < 0 || column >= width || row >= height) return;
    const { low, high } = screen.panel, byte = frames(screen.panel.frames)[(this.frame * height + row) * width + column];
    screen.value.textContent = (low + (high - low) * byte / 255).toPrecision(3);
  }
}

function move(player, frame) {
  player.show(frame);
  if (!document.querySelector(".together")?.checked) return;
  const time = player.movie.times[frame];
  for (const other of players) {
    if (other === player) continue;
    const apart = other.movie.times.map((t) => Math.abs(t - time));
    other.show(apart.indexOf(Math.min(...apart)));
  }
}

const players = [...document.querySelectorAll(".player")]
  .filter((section) => played.players)
  .map((section) => new Player(section, played.players[section.dataset.player]));
