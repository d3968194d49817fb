"use strict";
(() => {
const root = document.documentElement, KEY = "msgm-bench theme";
const all = (query, from = document) => [...from.querySelectorAll(query)];
const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
root.classList.add("js");
if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();

function theme(button) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const label = () => { button.textContent = now() === "dark" ? "Light" : "Dark"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = now() === "dark" ? "light" : "dark";
    try { localStorage.setItem(KEY, root.dataset.theme); } catch { /* a page without a memory */ }
    label();
  });
  dark.addEventListener("change", label);
  label();
}

function sortable(table) {
  const heads = all("thead th", table), body = table.tBodies[0];
  const value = (row, column) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
  const compare = (a, b) => (a !== "" && b !== "" && !isNaN(a) && !isNaN(b))
    ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const first = head.dataset.first || "ascending", other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach(each => { if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none"); });
      head.setAttribute("aria-sort", order);
      const empty = text => text === "" || text === "–";
      const rows = [...body.rows].sort((a, b) => {
        const x = value(a, column), y = value(b, column);
        if (empty(x) || empty(y)) return empty(x) - empty(y);
        return order === "ascending" ? compare(x, y) : compare(y, x);
      });
      body.append(...rows);
    });
  });
}

function filtered(controls) {
  const target = document.getElementById(controls.dataset.filter);
  const items = all(":scope > li, tbody > tr", target), count = controls.querySelector("[data-count]");
  const find = controls.querySelector("[data-find]"), picks = all("[data-pick]", controls);
  const apply = () => {
    const words = find.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    items.forEach(item => {
      const text = (item.dataset.words + " " + item.textContent).toLowerCase();
      const fits = picks.every(pick => !pick.value || item.dataset[pick.dataset.pick] === pick.value);
      item.hidden = !(fits && words.every(word => (item.matches("tr") ? item.dataset.words.toLowerCase() : text).includes(word)));
    });
    const left = items.filter(item => !item.hidden).length;
    count.textContent = `${left} of ${items.length} ${count.dataset.noun}`;
  };
  find.addEventListener("input", apply);
  picks.forEach(pick => pick.addEventListener("change", apply));
  apply();
}

function details(box) {
  const ranking = document.getElementById("ranking");
  const apply = () => ranking.classList.toggle("details", box.checked);
  box.addEventListener("change", apply);
  apply();
}

function spots(plot) {
  const tip = document.querySelector("[data-tip]"), links = all(".spot", plot);
  const show = (method, on) => {
    links.forEach(link => link.classList.toggle("lit", on && link.dataset.method === method));
    all("#board tbody tr").forEach(row => row.classList.toggle("lit", on && row.id === `row-${method}`));
    const link = links.find(each => each.dataset.method === method);
    tip.replaceChildren();
    if (!on || !link) return;
    const name = document.createElement("strong");
    name.textContent = method;
    tip.append(name, `: ${link.dataset.values}`);
  };
  links.forEach(link => {
    ["mouseenter", "focus"].forEach(event => link.addEventListener(event, () => show(link.dataset.method, true)));
    ["mouseleave", "blur"].forEach(event => link.addEventListener(event, () => show(link.dataset.method, false)));
  });
}

function compared(box) {
  const stage = box.querySelector("[data-stage]"), sides = all("[data-side]", box);
  const cut = box.querySelector("[data-cut]"), views = all("[name=view]", box);
  const figures = new Map(all("[data-sheets] > figure").map(figure => [figure.dataset.method, figure]));
  const draw = () => {
    const copies = sides.map(side => figures.get(side.value).cloneNode(true));
    all("img", stage).length || (box.hidden = false);
    copies.forEach(copy => copy.querySelector("img").removeAttribute("loading"));
    stage.replaceChildren(...copies);
  };
  const view = () => {
    stage.dataset.mode = views.find(each => each.checked).value;
    cut.parentElement.hidden = stage.dataset.mode !== "wipe";
  };
  const move = () => stage.style.setProperty("--cut", `${cut.value}%`);
  sides.forEach(side => side.addEventListener("change", draw));
  views.forEach(each => each.addEventListener("change", view));
  cut.addEventListener("input", move);
  draw(); view(); move();
}

function film(controls) {
  const choice = controls.querySelector("[data-reel]"), slider = controls.querySelector("[data-step]");
  const at = controls.querySelector("[data-at]"), reels = all("[data-reel-of]");
  const frames = () => all("li", reels.find(reel => reel.dataset.reelOf === choice.value));
  const move = () => {
    const shown = frames(), frame = shown[Math.min(slider.value, shown.length - 1)];
    shown.forEach(each => { each.hidden = each !== frame; });
    at.textContent = Number(frame.dataset.stepOf).toLocaleString("en");
    slider.setAttribute("aria-valuetext", `step ${at.textContent}`);
  };
  const choose = () => {
    const share = slider.value / slider.max;
    reels.forEach(reel => { reel.classList.add("reel"); reel.hidden = reel.dataset.reelOf !== choice.value; });
    slider.max = Math.max(1, frames().length - 1);
    slider.value = Math.round(share * slider.max);
    move();
  };
  all("img", document.getElementById("training")).forEach(image => image.removeAttribute("loading"));
  choice.addEventListener("change", choose);
  slider.addEventListener("input", move);
  controls.hidden = false;
  slider.value = slider.max;
  choose();
}

function copyable(block) {
  if (!navigator.clipboard) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(block.querySelector("code").textContent); button.textContent = "Copied"; }
    catch { button.textContent = "Select and copy"; }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  block.append(button);
}

document.addEventListener("DOMContentLoaded", () => {
  all("[data-theme-switch]").forEach(theme);
  all("[data-sortable]").forEach(sortable);
  all("[data-filter]").forEach(filtered);
  all("[data-details]").forEach(details);
  all("#plot").forEach(spots);
  all("[data-compare]").forEach(compared);
  all("[data-film]").forEach(film);
  all("pre.command").forEach(copyable);
});
})();
