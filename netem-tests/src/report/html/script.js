// A cursor across all plots of a scenario, with the values at it above each; and everything
// unfolded when it is printed or led to.
"use strict";

for (const plots of document.querySelectorAll(".plots")) {
  const figures = [...plots.querySelectorAll("figure")].map((figure) => ({
    svg: figure.querySelector("svg"),
    cursor: figure.querySelector(".cursor"),
    readout: figure.querySelector(".readout"),
    lines: [...figure.querySelectorAll("path")].map((path) => ({
      label: path.dataset.label,
      color: path.classList[0],
      points: path.dataset.points
        .split(" ")
        .filter(Boolean)
        .map((point) => point.split(",").map(Number)),
    })),
  }));

  plots.addEventListener("pointermove", (event) => {
    const svg = event.target.closest("svg");
    if (!svg) return hide();
    const box = svg.getBoundingClientRect();
    const { width } = svg.viewBox.baseVal;
    const left = Number(svg.dataset.left);
    const duration = Number(svg.dataset.duration);
    const x = ((event.clientX - box.left) / box.width) * width;
    const t = ((x - left) / (width - left)) * duration;
    if (t < 0 || t > duration) return hide();
    for (const figure of figures) show(figure, t, x);
  });
  plots.addEventListener("pointerleave", hide);

  function show({ cursor, readout, lines }, t, x) {
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.style.visibility = "visible";
    readout.replaceChildren(`${t.toFixed(1)} s`);
    for (const { label, color, points } of lines) {
      // A value is of the time that ends with its point.
      const point = points.find(([end]) => end >= t);
      if (!point || point[0] - t > 2) continue;
      const dot = document.createElement("i");
      dot.className = `dot ${color}`;
      readout.append(dot, `${label} ${point[1]}`);
    }
  }

  function hide() {
    for (const { cursor, readout } of figures) {
      cursor.style.visibility = "hidden";
      readout.replaceChildren();
    }
  }
}

function unfold() {
  const target = location.hash && document.querySelector(location.hash);
  if (target) target.open = true;
}
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
