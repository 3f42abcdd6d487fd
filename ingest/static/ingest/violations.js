// Draws the refused requests, a part of each bar for each rule; a bar leads to what is in it.
"use strict";

(() => {
  const canvas = document.getElementById("refused");
  if (!canvas) return;
  const { labels, links, chosen, datasets } = JSON.parse(
    document.getElementById("refused-data").textContent,
  );
  const quiet = "#8b95a5"; // legible on the light ground and on the dark one
  const lines = "rgba(139, 149, 165, 0.25)";

  // Of a chosen bar's neighbours half is left.
  const faded = (colour) => labels.map((_, at) => (chosen === null || at === chosen ? colour : `${colour}66`));

  Chart.defaults.font.family = "Inter";
  new Chart(canvas, {
    type: "bar",
    data: {
      labels,
      datasets: datasets.map((one) => ({
        ...one,
        backgroundColor: faded(one.backgroundColor),
        pointStyle: "rectRounded",
      })),
    },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      onClick: (_, hits) => hits.length && location.assign(links[hits[0].index]),
      onHover: (event, hits) => (canvas.style.cursor = hits.length ? "pointer" : "default"),
      plugins: {
        legend: {
          align: "start",
          position: "bottom",
          // A click on it would hide a rule, and leave the sums beneath as they are.
          onClick: () => {},
          labels: {
            boxHeight: 8,
            boxWidth: 8,
            color: quiet,
            usePointStyle: true,
            generateLabels: (chart) =>
              datasets.map((one, at) => ({
                text: one.label,
                fillStyle: one.backgroundColor,
                fontColor: quiet,
                strokeStyle: "transparent",
                pointStyle: "rectRounded",
                datasetIndex: at,
              })),
          },
        },
        tooltip: {
          filter: (item) => item.raw > 0,
          callbacks: {
            footer: (items) =>
              `${items.reduce((sum, item) => sum + item.raw, 0).toLocaleString("en")} refused`,
          },
        },
      },
      scales: {
        x: {
          stacked: true,
          grid: { display: false },
          border: { color: lines },
          ticks: { color: quiet, maxRotation: 0, autoSkipPadding: 16 },
        },
        y: {
          stacked: true,
          beginAtZero: true,
          grid: { color: lines },
          border: { display: false },
          ticks: { color: quiet, precision: 0, maxTicksLimit: 6 },
        },
      },
    },
  });
})();
