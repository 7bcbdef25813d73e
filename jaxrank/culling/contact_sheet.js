"use strict";

// A page of the sheet holds whole series up to this many photos; a longer series is split.
const PAGE_PHOTOS = 48;
// Milliseconds between looks for thumbnails while the file is still being read.
const LOOK_AGAIN = 150;
const DECISIONS = { pick: "Pick", alternate: "Alternate", reject: "Reject", undecided: "Undecided" };
const KINDS = {
  burst: (count) => `burst of ${count} photos`,
  single: () => "single photo",
  bracket: (count) => `exposure bracket of ${count} photos`,
  focus_stack: (count) => `focus stack of ${count} photos`,
  panorama: (count) => `panorama of ${count} photos`,
};
const COLUMNS = "path series rank score p_best decision rating reasons changed".split(" ");
// Not cull.csv: saved over that file in the work folder, the table of an older sheet would pass
// for an edited one.
const DOWNLOAD = "cull_changes.csv";
// What a spreadsheet program would run as a formula gets an apostrophe, as in cull.csv.
const FORMULA = /^[=+\-@\t\r]/;

const element = (id) => document.getElementById(id);
const storageName = document.body.dataset.name;
const photos = readPhotos();
const series = groupSeries();
const pages = groupPages();
let changes = {}; // by a photo's number, what the person decided: {decision, rating}
let current = 0; // the photo that keys act on
let shownPage = -1;
let isStored = false;
let isSaved = true;

// Photos, series and pages.

function readPhotos() {
  const columns = JSON.parse(element("photos").textContent);
  const rows = columns.path.map((_, number) => ({ number }));
  for (const [column, values] of Object.entries(columns)) {
    values.forEach((value, number) => { rows[number][column] = value; });
  }
  return rows;
}

function groupSeries() {
  const found = [];
  for (const photo of photos) {
    const last = found[found.length - 1];
    if (last && last.name === photo.series) last.end = photo.number + 1;
    else found.push({ name: photo.series, start: photo.number, end: photo.number + 1 });
    photo.of = found[found.length - 1];
  }
  return found;
}

// Lists of {group, start, end}: the photos of a series that are on the page.
function groupPages() {
  const found = [];
  let room = 0;
  for (const group of series) {
    for (let start = group.start; start < group.end; ) {
      if (group.end - start > room) {
        found.push([]);
        room = PAGE_PHOTOS;
      }
      const end = Math.min(group.end, start + room);
      found[found.length - 1].push({ group, start, end });
      for (let number = start; number < end; number++) photos[number].page = found.length - 1;
      room -= end - start;
      start = end;
    }
  }
  return found;
}

// What is decided.

const valueOf = (photo, column) => changes[photo.number]?.[column] ?? photo[column];
// In an earlier session, and in this one.
const wasChanged = (photo, column) => photo.changed.split(" ").includes(column);
const isChanged = (photo, column) => changes[photo.number]?.[column] !== undefined;
// No rating and a rating of 0 are one.
const isSame = (a, b) => (a || 0) === (b || 0);

function change(photo, column, value) {
  const own = changes[photo.number] ?? {};
  if (isSame(value, photo[column])) delete own[column];
  else own[column] = value;
  if (Object.keys(own).length) changes[photo.number] = own;
  else delete changes[photo.number];
}

function decide(photo, decision) {
  const touched = [photo];
  if (decision === "pick") {
    for (let number = photo.of.start; number < photo.of.end; number++) {
      const other = photos[number];
      const isOurs = !other.marked && !wasChanged(other, "decision") && !isChanged(other, "decision");
      if (other !== photo && other.decision === "pick" && isOurs) {
        change(other, "decision", "alternate");
        touched.push(other);
      }
    }
  }
  // Where nothing was culled, "undecided" is what it was.
  change(photo, "decision", decision === "undecided" && !photo.decision ? "" : decision);
  keep(touched);
}

function rate(photo, stars) {
  change(photo, "rating", stars);
  keep([photo]);
}

function keep(touched) {
  isSaved = false;
  store();
  for (const photo of touched) showMarks(photo);
  showCounts();
  showView();
  element("status").textContent = touched.map(described).join("; ");
}

const described = (photo) =>
  [printable(photo.path), decisionText(photo) || "not culled", starsText(photo)].filter(Boolean).join(", ");

// Changes in the browser's storage, which others may have written to.

function store() {
  if (!isStored) return;
  try {
    localStorage.setItem(storageName, JSON.stringify(changes));
  } catch {
    isStored = false;
    showStorage();
  }
}

function restore() {
  try {
    const text = localStorage.getItem(storageName);
    localStorage.setItem(storageName, text ?? "{}");
    isStored = localStorage.getItem(storageName) !== null;
    const stored = JSON.parse(text ?? "{}");
    for (const photo of photos) {
      const own = stored?.[photo.number];
      if (!own) continue;
      if (Object.hasOwn(DECISIONS, own.decision)) change(photo, "decision", own.decision);
      if (Number.isInteger(own.rating) && own.rating >= 0 && own.rating <= 5) {
        change(photo, "rating", own.rating);
      }
    }
  } catch {
    // No storage, or nothing of ours in it.
  }
}

function showStorage() {
  element("storage").hidden = isStored;
  element("storage").textContent =
    "This browser keeps no changes of this page: save the CSV before you close it.";
}

// Words.

// Control characters and turns of the direction of writing are spelled out.
const printable = (text) =>
  text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);

const decisionText = (photo) => {
  const decision = valueOf(photo, "decision");
  return DECISIONS[decision] ?? printable(decision);
};

function starsText(photo) {
  const rating = valueOf(photo, "rating");
  if (rating === -1) return "rating \u22121";
  return rating > 0 ? "\u2605".repeat(rating) + "\u2606".repeat(Math.max(0, 5 - rating)) : "";
}

function probabilityText(photo) {
  if (photo.p_best === null) return "";
  const percent = Math.round(100 * photo.p_best);
  if (percent < 1) return "under 1% likely the best";
  if (percent > 99) return "over 99% likely the best";
  return `${percent}% likely the best`;
}

function rankText(photo) {
  const count = photo.of.end - photo.of.start;
  return photo.rank === null || count === 1 ? "" : `rank ${photo.rank} of ${count}`;
}

function seriesText(group) {
  const count = group.end - group.start;
  const { kind } = photos[group.start];
  const what = Object.hasOwn(KINDS, kind) ? KINDS[kind](count) : `${printable(kind)}, ${count} photos`;
  const isCulled = photos.slice(group.start, group.end).some((photo) => photo.decision);
  return isCulled || kind === "single" ? what : `${what}, not culled`;
}

const factTexts = (photo) =>
  [probabilityText(photo), rankText(photo), printable(photo.reasons)].filter(Boolean);

const ownText = (photo) => (changes[photo.number] || photo.changed || photo.marked ? "yours" : "");

// The page.

function made(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function showPage(page) {
  shownPage = page;
  element("series").replaceChildren(...pages[page].map(madeSection));
  element("page").value = page + 1;
  element("before").disabled = page === 0;
  element("after").disabled = page === pages.length - 1;
  fill();
}

// Paper has no pages to turn: all photos are printed.
function showAll() {
  element("series").replaceChildren(...pages.flat().map(madeSection));
  fill();
}

addEventListener("beforeprint", showAll);
addEventListener("afterprint", () => showPage(shownPage));

function madeSection({ group, start, end }) {
  const section = made("section", group.end - group.start === 1 ? "alone" : "");
  const head = made("h2");
  head.append(made("bdi", "", printable(group.name)), " ", made("small", "", seriesText(group)));
  if (start > group.start) head.append(made("small", "", ", continued"));
  const row = made("div", "row");
  row.append(...photos.slice(start, end).map(madePhoto));
  section.append(head, row);
  return section;
}

function madePhoto(photo) {
  const button = made("button", "photo");
  button.type = "button";
  button.id = `p${photo.number}`;
  button.tabIndex = photo.number === current ? 0 : -1;
  button.append(madePicture(photo), made("span", "marks"), madePath(photo));
  for (const text of factTexts(photo)) button.append(made("span", "fact", text));
  button.addEventListener("click", () => {
    go(photo.number);
    openView();
  });
  setMarks(button, photo);
  return button;
}

// Long paths break between folders rather than inside a name.
function madePath(photo) {
  const path = made("bdi", "file");
  printable(photo.path).split("/").forEach((part, depth) => {
    if (depth) path.append("/", made("wbr"));
    path.append(part);
  });
  return path;
}

function madePicture(photo) {
  const picture = made("span", "picture");
  picture.dataset.waiting = photo.number;
  return picture;
}

function showMarks(photo) {
  const button = element(`p${photo.number}`);
  if (button) setMarks(button, photo);
}

function setMarks(button, photo) {
  button.dataset.decision = valueOf(photo, "decision");
  button.querySelector(".marks").replaceChildren(
    ...[made("b", "decision", decisionText(photo)), made("span", "stars", starsText(photo)), made("i", "", ownText(photo))]
      .filter((node) => node.textContent),
  );
}

// Thumbnails are there once the parser is past them.
function fill() {
  for (const picture of document.querySelectorAll("[data-waiting]")) {
    const photo = photos[picture.dataset.waiting];
    const holder = element(`t${photo.number}`);
    if (document.readyState === "loading" && !holder?.nextSibling) continue;
    delete picture.dataset.waiting;
    picture.replaceChildren(holder?.textContent ? madeImage(photo, holder.textContent) : made("span", "", "no preview"));
  }
}

function madeImage(photo, content) {
  const image = made("img");
  image.alt = `Preview of ${printable(photo.path)}`;
  image.decoding = "async";
  image.src = `data:image/jpeg;base64,${content}`;
  return image;
}

function showCounts() {
  const counts = { pick: 0, alternate: 0, reject: 0, undecided: 0 };
  for (const photo of photos) {
    const decision = valueOf(photo, "decision");
    if (Object.hasOwn(counts, decision)) counts[decision]++;
  }
  const undecided = `${counts.undecided.toLocaleString("en")} undecided`;
  const others = photos.length - Object.values(counts).reduce((a, b) => a + b);
  const own = Object.keys(changes).length;
  const parts = [
    counted(photos.length, "photo"), counted(counts.pick, "pick"),
    counted(counts.alternate, "alternate"), counted(counts.reject, "reject"), undecided,
    ...(others ? [`${others.toLocaleString("en")} not culled`] : []),
    `${own.toLocaleString("en")} changed here`,
  ];
  element("counts").textContent = parts.join(" \u00b7 ");
  element("discard").disabled = own === 0;
}

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

// Moving about.

function go(number) {
  if (number < 0 || number >= photos.length) return;
  const before = element(`p${current}`);
  if (before) before.tabIndex = -1;
  current = number;
  if (photos[number].page !== shownPage) showPage(photos[number].page);
  element(`p${number}`).tabIndex = 0;
  if (!element("view").open) focusCurrent();
  showView();
}

function goToPage(page) {
  if (page >= 0 && page < pages.length) go(pages[page][0].start);
}

function goToSeries(step) {
  const group = series[series.indexOf(photos[current].of) + step];
  if (group) go(group.start);
}

function focusCurrent() {
  const button = element(`p${current}`);
  button.focus({ preventScroll: true });
  button.scrollIntoView({ block: "nearest" });
}

function openView() {
  element("view").showModal();
  element("close").focus();
  showView();
}

function showView() {
  if (!element("view").open) return;
  const photo = photos[current];
  const number = `${current}`;
  if (element("view-picture").dataset.photo !== number) {
    element("view-picture").dataset.photo = number;
    element("view-picture").replaceChildren();
    element("view-picture").dataset.waiting = number;
    fill();
  }
  element("view").dataset.decision = valueOf(photo, "decision");
  element("view-name").textContent = printable(photo.path);
  element("view-decision").textContent =
    [decisionText(photo) || "Not culled", starsText(photo), ownText(photo)].filter(Boolean).join(" \u00b7 ");
  element("view-facts").textContent = factTexts(photo).join(" \u00b7 ");
}

const ACTIONS = {
  p: () => decide(photos[current], "pick"),
  x: () => decide(photos[current], "reject"),
  u: () => decide(photos[current], "undecided"),
  ArrowLeft: () => go(current - 1),
  ArrowRight: () => go(current + 1),
  ArrowUp: () => goToSeries(-1),
  ArrowDown: () => goToSeries(1),
};
for (let stars = 0; stars <= 5; stars++) ACTIONS[stars] = () => rate(photos[current], stars);

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!Object.hasOwn(ACTIONS, key)) return;
  event.preventDefault();
  ACTIONS[key]();
}

// The CSV file.

function cell(value) {
  if (value === null) return "";
  const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvRow(photo) {
  const changed = ["decision", "rating"].filter((column) => isChanged(photo, column)).join(" ");
  return COLUMNS.map((column) => cell(column === "changed" ? changed : valueOf(photo, column))).join(",");
}

function saveCsv() {
  const lines = [COLUMNS.join(","), ...photos.map(csvRow), ""];
  const link = made("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n")], { type: "text/csv" }));
  link.download = DOWNLOAD;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  isSaved = true;
  element("status").textContent = `Saved as ${DOWNLOAD}, where this browser puts downloads.`;
}

function discard() {
  if (!confirm("Discard all of your changes?")) return;
  changes = {};
  isSaved = true;
  store();
  showPage(shownPage);
  showCounts();
  element("status").textContent = "Your changes are discarded.";
}

function start() {
  restore();
  showStorage();
  if (!photos.length) return;
  element("bar").hidden = false;
  element("pages").textContent = `of ${pages.length}`;
  element("page").max = pages.length;
  showCounts();
  showPage(0);
  element("p0").focus({ preventScroll: true });
  const timer = setInterval(fill, LOOK_AGAIN);
  document.addEventListener("DOMContentLoaded", () => {
    clearInterval(timer);
    fill();
  });
  document.addEventListener("keydown", onKey);
  element("before").addEventListener("click", () => goToPage(shownPage - 1));
  element("after").addEventListener("click", () => goToPage(shownPage + 1));
  element("page").addEventListener("change", (event) => goToPage(Number(event.target.value) - 1));
  element("export").addEventListener("click", saveCsv);
  element("discard").addEventListener("click", discard);
  element("close").addEventListener("click", () => element("view").close());
  element("view").addEventListener("close", focusCurrent);
  for (const button of document.querySelectorAll("[data-key]")) {
    button.addEventListener("click", () => ACTIONS[button.dataset.key]());
  }
  addEventListener("beforeunload", (event) => {
    if (!isStored && !isSaved) event.preventDefault();
  });
}

start();
