// Sends an image to the server and shows what comes back. Words are hidden by score here, without another request.

const part = (id) => document.getElementById(id);
const settings = await (await fetch("settings")).json();
let shown = null; // {name, answer, words: [{word, chip, polygon}]} of the image that is shown
let pending = null; // AbortController of the image that is being read

// ---- from the user ----

part("file").addEventListener("change", ({ target }) => {
  take(target.files);
  target.value = ""; // so that the same file can be chosen again
});
part("example").addEventListener("click", async () => {
  try {
    read(new File([await (await fetch("example.png")).blob()], "example.png"));
  } catch {
    complain(unreachable);
  }
});
document.addEventListener("paste", ({ clipboardData }) => {
  take(clipboardData.files, "The clipboard holds no image file.");
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // the browser would leave the page and open the file
    const leaves = kind === "drop" || (kind === "dragleave" && event.relatedTarget === null);
    document.body.classList.toggle("dragging", !leaves);
    if (kind === "drop") take(event.dataTransfer.files, "That was no file; drop an image file.");
  });
}
part("minimum").addEventListener("input", update);
part("show-polygons").addEventListener("change", update);
part("show-map").addEventListener("change", update);
part("copy").addEventListener("click", () => copy(text(), "The text is in the clipboard."));
part("download").addEventListener("click", download);

function take(files, otherwise) {
  if (files.length) read(files[0], files.length);
  else if (otherwise) complain(otherwise);
}

// ---- to the server and back ----

const unreachable = "The server does not answer. Is tcm-jax demo still running?";

async function read(file, dropped = 1) {
  pending?.abort();
  const mine = (pending = new AbortController());
  complain("");
  if (file.size > settings.max_bytes) {
    pending = null;
    wait(null);
    return complain(`${file.name} has ${megabytes(file.size)}; at most ${megabytes(settings.max_bytes)} are accepted.`);
  }
  wait(file);
  say(`Reading ${file.name} ...` + (dropped > 1 ? ` (the first of ${dropped} files)` : ""));
  const patience = "The first image of a shape takes some seconds longer.";
  const slow = setTimeout(() => say(`Reading ${file.name} ... ${patience}`), 4000);
  const start = performance.now();
  let ok = false, answer = null;
  try {
    const response = await fetch("spot", { method: "POST", body: file, signal: mine.signal });
    [ok, answer] = [response.ok, await response.json()];
  } catch { /* no answer, or none that is wanted any more */ }
  clearTimeout(slow);
  if (mine !== pending) return; // another image has replaced it
  pending = null;
  if (ok) show(file.name, answer, (performance.now() - start) / 1000);
  wait(null);
  if (!ok) complain(answer ? `${file.name}: ${answer.error}.` : unreachable);
}

/** Shows that a file is being read, or that none is. */
function wait(file) {
  const preview = part("preview");
  URL.revokeObjectURL(preview.src);
  part("waiting").hidden = !file;
  part("result").hidden = Boolean(file) || !shown;
  document.body.classList.toggle("used", Boolean(file || shown));
  if (!file) return;
  preview.hidden = true; // not every format is one of the browser's
  preview.onload = () => (preview.hidden = false);
  preview.src = URL.createObjectURL(file);
}

function complain(problem) {
  part("error").textContent = problem;
  part("error").hidden = !problem;
  if (problem) say("");
}

function say(message) {
  part("status").textContent = message;
}

// ---- the answer ----

function show(name, answer, seconds) {
  const { photo, picture, score_map: map } = answer;
  const words = photo.words.map((word) => ({ word, chip: chip(word), polygon: outline(word) }));
  for (const { word, chip, polygon } of words) {
    for (const element of [chip, polygon]) {
      element.style.setProperty("--score", colour(word.score));
      for (const event of ["pointerenter", "focus"]) element.addEventListener(event, () => light(word));
      for (const event of ["pointerleave", "blur"]) element.addEventListener(event, () => light(null));
    }
    chip.addEventListener("click", () => copy(word.text, `“${word.text}” is in the clipboard.`));
    polygon.addEventListener("click", () => chip.focus());
  }
  const lines = new Map();
  for (const { word, chip } of words) {
    if (!lines.has(word.line)) lines.set(word.line, document.createElement("li"));
    lines.get(word.line).append(chip);
  }
  part("lines").replaceChildren(...lines.values());
  part("polygons").replaceChildren(...words.map(({ polygon }) => polygon));

  part("photo").setAttribute("viewBox", `0 0 ${photo.width} ${photo.height}`);
  place(part("picture"), picture, photo);
  if (map) {
    place(part("map"), map.picture, map);
    for (const end of ["low", "high"]) part(end).textContent = map[end].toFixed(2).replace("-", "−");
  }
  part("show-map").disabled = !map;
  part("show-map").parentElement.title = map ? "Similarity with the text prompt" : "This detector has none";
  part("facts").textContent =
    `${name}, ${photo.width} × ${photo.height} pixels, read in ${answer.seconds.toFixed(2)} s` +
    ` (${seconds.toFixed(2)} s with the transfer)`;
  shown = { name, answer, words };
  light(null);
  update();
  const count = visible().length;
  say(`${name}: ${count} ${count === 1 ? "word" : "words"} found.`);
}

function chip(word) {
  const button = document.createElement("button");
  const score = document.createElement("small");
  score.textContent = `${percent(word.score)} %`;
  button.type = "button";
  button.className = "word";
  button.title = `Copy. Read with a score of ${percent(word.score)} %, detected with ${percent(word.detection_score)} %`;
  button.append(word.text, score);
  return button;
}

function outline(word) {
  const polygon = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
  polygon.setAttribute("points", word.polygon.map((point) => point.join()).join(" "));
  return polygon;
}

function place(image, source, { width, height }) {
  image.setAttribute("href", source);
  image.setAttribute("width", width);
  image.setAttribute("height", height);
}

/** Highlights a word in the image and in the list, or none. */
function light(lit) {
  for (const { word, chip, polygon } of shown.words) {
    chip.classList.toggle("lit", word === lit);
    polygon.classList.toggle("lit", word === lit);
  }
  const label = part("label");
  label.textContent = lit ? lit.text : "";
  if (!lit) return;
  const { width, height } = shown.answer.photo;
  const size = Math.max(width, height) / 28;
  const [xs, ys] = [0, 1].map((axis) => lit.polygon.map((point) => point[axis]));
  const above = Math.min(...ys) - 0.3 * size;
  label.setAttribute("font-size", size);
  label.setAttribute("y", above > size ? above : Math.min(Math.max(...ys) + 1.1 * size, height - 0.3 * size));
  label.setAttribute("x", Math.max(0, Math.min(Math.min(...xs), width - label.getComputedTextLength())));
}

/** Applies the controls to what is shown. */
function update() {
  const minimum = part("minimum").valueAsNumber;
  part("minimum-value").textContent = minimum.toFixed(2);
  if (!shown) return;
  for (const { word, chip, polygon } of shown.words) {
    chip.hidden = word.score < minimum;
    polygon.style.display = chip.hidden ? "none" : "";
  }
  for (const line of part("lines").children) line.hidden = [...line.children].every((chip) => chip.hidden);
  const map = part("show-map").checked && !part("show-map").disabled;
  part("polygons").style.display = part("show-polygons").checked ? "" : "none";
  part("map").style.display = map ? "" : "none";
  part("legend").hidden = !map;
  const [count, all] = [visible().length, shown.words.length];
  const hidden = all - count ? `, ${all - count} more below the minimum score` : "";
  part("count").textContent = all ? `${count} ${count === 1 ? "word" : "words"}${hidden}` : "No text found";
  part("photo").setAttribute("aria-label", `${shown.name} with ${count} outlined words, which the list holds`);
  part("copy").disabled = !count;
}

function visible() {
  return shown.words.filter(({ chip }) => !chip.hidden).map(({ word }) => word);
}

// ---- out of the page ----

/** The words that are shown, in their lines of text. */
function text() {
  const lines = [...part("lines").children].filter((line) => !line.hidden);
  const words = (line) => [...line.children].filter((chip) => !chip.hidden).map((chip) => chip.firstChild.data);
  return lines.map((line) => words(line).join(" ")).join("\n");
}

async function copy(text, message) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // browsers give it to pages of this machine and of https only
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(message);
}

function download() {
  const photo = { ...shown.answer.photo, image: shown.name, words: visible() };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(photo, null, 1)], { type: "application/json" }));
  link.download = shown.name.replace(/\.[^.]*$/, "") + ".json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// ---- small things ----

function percent(score) {
  return Math.round(100 * score);
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(bytes < 1e6 ? 2 : 1).replace(/\.0$/, "")} MB`;
}

/** From red for 0.5 over yellow to green for 1. */
function colour(score) {
  return `hsl(${Math.round(140 * Math.min(1, Math.max(0, (score - 0.5) / 0.5)))} 90% 48%)`;
}

part("limit").textContent = `, at most ${megabytes(settings.max_bytes)}.`;
part("minimum").value = settings.min_score;
update();
