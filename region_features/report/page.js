"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const { colours, images } = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const [show, filter, confidence] = ["show", "filter", "confidence"].map(byId);
  const dialog = byId("zoom");
  const colourOf = (index) => colours[index % colours.length];

  const matches = (box) => show.checked && box[4] >= Number(confidence.value) - 1e-9
    && box[5].toLowerCase().includes(filter.value.trim().toLowerCase());

  const rectangle = (box, name) => {
    const rect = document.createElementNS(SVG, "rect");
    const [x1, y1, x2, y2] = box;
    for (const [key, value] of [["x", x1], ["y", y1], ["width", Math.max(0, x2 - x1)], ["height", Math.max(0, y2 - y1)]]) {
      rect.setAttribute(key, value);
    }
    rect.setAttribute("class", name);
    return rect;
  };

  // The least confident first, so that the best lies on top.
  const drawBoxes = (image) => {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${image.width} ${image.height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    const groups = image.boxes.map((box, index) => {
      const group = document.createElementNS(SVG, "g");
      const title = document.createElementNS(SVG, "title");
      title.textContent = `${box[5]} ${box[4].toFixed(2)}`;
      const line = rectangle(box, "colour");
      line.style.stroke = colourOf(index);
      group.append(title, rectangle(box, "rim"), line);
      return group;
    });
    svg.append(...groups.slice().reverse());
    return [svg, groups];
  };

  const pictures = [...document.querySelectorAll(".picture")].map((figure) => {
    const number = Number(figure.dataset.image);
    const frame = figure.querySelector(".frame");
    const picture = { number, figure, groups: [], image: figure.querySelector("img") };
    if (frame) {
      const [svg, groups] = drawBoxes(images[number]);
      frame.append(svg);
      picture.groups = groups;
      figure.querySelector(".stage").addEventListener("click", () => open(picture));
    }
    return picture;
  });

  const apply = () => {
    byId("shown-confidence").textContent = Number(confidence.value).toFixed(2);
    let boxes = 0;
    const withBoxes = new Set();
    for (const picture of pictures) {
      picture.groups.forEach((group, index) => {
        const shown = matches(images[picture.number].boxes[index]);
        group.style.display = shown ? "" : "none";
        boxes += shown;
        if (shown) withBoxes.add(picture.number);
      });
    }
    byId("matching").textContent = `${boxes} boxes in ${withBoxes.size} pictures`;
    if (current && dialog.open) refresh();
  };

  let current = null;
  let scale = 1;
  let parts = [];
  const openable = pictures.filter((picture) => picture.image);

  const fit = () => {
    const view = dialog.querySelector(".view");
    const image = images[current.number];
    const width = Math.min(view.clientWidth, view.clientHeight * image.width / image.height);
    byId("zoom-frame").style.width = `${Math.floor(width * scale)}px`;
    byId("zoom-share").textContent = `${Math.round(scale * 100)} %`;
  };

  const refresh = () => {
    for (const part of parts) {
      const wanted = matches(part.box);
      part.item.classList.toggle("off", !wanted);
      const shown = wanted && part.check.checked;
      part.group.style.display = part.label.style.display = shown ? "" : "none";
    }
  };

  const text = (tag, content, name) => {
    const element = document.createElement(tag);
    element.textContent = content;
    element.className = name;
    return element;
  };

  const open = (picture) => {
    current = picture;
    scale = 1;
    const image = images[picture.number];
    const frame = byId("zoom-frame");
    const copy = document.createElement("img");
    copy.src = picture.image.src;
    copy.alt = picture.image.alt;
    const [svg, groups] = drawBoxes(image);
    parts = image.boxes.map((box, index) => {
      const label = text("span", `${box[5]} ${box[4].toFixed(2)}`, "label");
      const right = box[0] > image.width * 0.6;
      label.style[right ? "right" : "left"] = `${100 * (right ? image.width - box[2] : box[0]) / image.width}%`;
      label.style.top = `${100 * box[1] / image.height}%`;
      label.style.background = colourOf(index);
      label.style.color = ["#0072B2"].includes(colourOf(index)) ? "#fff" : "#000";
      const item = document.createElement("li");
      const row = document.createElement("label");
      const check = document.createElement("input");
      check.type = "checkbox";
      check.checked = true;
      check.addEventListener("change", refresh);
      const swatch = document.createElement("i");
      swatch.style.background = colourOf(index);
      row.append(check, swatch, text("span", box[5], ""), text("span", box[4].toFixed(2), "conf"));
      row.addEventListener("mouseenter", () => groups[index].classList.add("lit"));
      row.addEventListener("mouseleave", () => groups[index].classList.remove("lit"));
      item.append(row);
      return { box, group: groups[index], label, item, check };
    });
    frame.replaceChildren(copy, svg, ...parts.map((part) => part.label).reverse());
    byId("zoom-list").replaceChildren(...parts.map((part) => part.item));
    byId("zoom-name").textContent = image.id;
    if (!dialog.open) dialog.showModal();
    refresh();
    fit();
  };

  const zoom = (factor) => {
    scale = Math.min(8, Math.max(1, scale * factor));
    fit();
  };
  const step = (by) => open(openable[(openable.indexOf(current) + by + openable.length) % openable.length]);

  for (const [id, act] of [["larger", () => zoom(1.5)], ["smaller", () => zoom(1 / 1.5)], ["earlier", () => step(-1)],
    ["later", () => step(1)], ["close", () => dialog.close()]]) {
    byId(id).addEventListener("click", act);
  }
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const act = { "+": () => zoom(1.5), "-": () => zoom(1 / 1.5), ArrowLeft: () => step(-1), ArrowRight: () => step(1) }[event.key];
    if (act && scale === 1 | "+-".includes(event.key)) { act(); event.preventDefault(); }
  });
  dialog.querySelector(".view").addEventListener("wheel", (event) => {
    if (event.ctrlKey) { zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2); event.preventDefault(); }
  }, { passive: false });
  addEventListener("resize", () => { if (dialog.open) fit(); });
  for (const input of [show, filter, confidence]) input.addEventListener("input", apply);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").hidden = false;
  apply();
})();
