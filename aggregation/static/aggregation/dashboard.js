// Draws the charts of a dashboard: each canvas names the element that has its numbers.
"use strict";

(() => {
  const quiet = "#8b95a5"; // legible on the light ground and on the dark one
  const grid = "rgba(139, 149, 165, 0.25)";
  const shade = "rgba(217, 119, 6, 0.14)";

  // Behind what is drawn, the buckets of which something is withheld.
  const shading = (withheld) => ({
    id: "shading",
    beforeDatasetsDraw({ ctx, chartArea, scales }) {
      // From one bucket to the next; of a single one all of it.
      const half =
        (scales.x.getPixelForValue(1) - scales.x.getPixelForValue(0)) / 2 || chartArea.width;
      const within = (pixel) =>
        Math.round(Math.min(chartArea.right, Math.max(chartArea.left, pixel)));
      ctx.save();
      ctx.fillStyle = shade;
      for (const place of withheld) {
        const middle = scales.x.getPixelForValue(place);
        const left = within(middle - half);
        ctx.fillRect(left, chartArea.top, within(middle + half) - left, chartArea.height);
      }
      ctx.restore();
    },
  });

  const dataset = (one, stacked, places) => {
    const bars = one.bars || stacked;
    return {
      label: one.label,
      data: one.numbers,
      type: bars ? "bar" : "line",
      yAxisID: one.on,
      order: one.bars ? 1 : 0,
      borderColor: one.colour,
      backgroundColor: one.bars ? `${one.colour}44` : one.colour,
      borderWidth: bars ? 0 : one.dashed ? 1.5 : 2,
      borderDash: one.dashed ? [5, 4] : [],
      // A number between two that are withheld is no line.
      pointRadius: ({ dataIndex: at, dataset: { data } }) =>
        !one.dashed && (places < 15 || (data[at - 1] == null && data[at + 1] == null)) ? 2.5 : 0,
      spanGaps: false,
      cubicInterpolationMode: "monotone", // no curve goes below what it is drawn of
    };
  };

  // A line as it is drawn, dashed or not; a bar as a square.
  const legend = (chart, one, at, stacked) => ({
    text: one.label,
    datasetIndex: at,
    hidden: !chart.isDatasetVisible(at),
    fontColor: quiet,
    fillStyle: one.colour,
    strokeStyle: one.colour,
    lineWidth: 2,
    lineDash: one.dashed ? [3, 3] : [],
    pointStyle: one.bars || stacked ? "rectRounded" : "line",
  });

  const scale = (position, one, more) => ({
    position,
    display: "auto",
    beginAtZero: true,
    title: { display: !!one, text: one, color: quiet },
    border: { display: false },
    ticks: { color: quiet, maxTicksLimit: 6 },
    ...more,
  });

  const names = (series, on) =>
    series.some((one) => one.on === "right")
      ? series.filter((one) => one.on === on && !one.dashed).map((one) => one.label).join(", ")
      : "";

  const draw = (canvas) => {
    const { labels, series, stacked, withheld } = JSON.parse(
      document.getElementById(canvas.dataset.chart).textContent,
    );
    new Chart(canvas, {
      data: { labels, datasets: series.map((one) => dataset(one, stacked, labels.length)) },
      plugins: [shading(withheld)],
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        plugins: {
          legend: {
            align: "start",
            position: "bottom",
            labels: {
              boxHeight: 7,
              color: quiet,
              usePointStyle: true,
              generateLabels: (chart) => series.map((one, at) => legend(chart, one, at, stacked)),
            },
          },
          tooltip: {
            callbacks: {
              footer: ([item]) =>
                item && withheld.includes(item.dataIndex) ? "Something of it is withheld." : "",
            },
          },
        },
        scales: {
          x: {
            stacked,
            grid: { display: false },
            border: { color: grid },
            ticks: { color: quiet, maxRotation: 0, autoSkipPadding: 16 },
          },
          left: scale("left", names(series, "left"), { stacked, grid: { color: grid } }),
          right: scale("right", names(series, "right"), { grid: { display: false } }),
        },
      },
    });
  };

  Chart.defaults.font.family = "Inter";
  document.querySelectorAll("canvas[data-chart]").forEach(draw);
})();
