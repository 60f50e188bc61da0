// A run's page while the run goes on: new pieces are put in where they belong, clocks tick, the plot grows.
// The server makes all markup; here it is only put in place. Without this script the page shows the run as it was.
(() => {
  "use strict";
  const run = document.getElementById("run");
  if (!run) return;
  const key = run.dataset.run;
  const story = document.getElementById("story");
  const live = document.getElementById("run-live");
  const newest = document.getElementById("newest");
  let ahead = Number(run.dataset.now) - Date.now() / 1000; // of the server's clock

  // -- clocks ------------------------------------------------------------------------------------------------------
  const written = (seconds) => {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 60) return `${whole} s`;
    const minutes = Math.floor(whole / 60);
    if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
    return minutes < 10 && whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  };
  const tick = () => {
    for (const one of document.querySelectorAll("[data-since]")) {
      const text = written(Date.now() / 1000 + ahead - Number(one.dataset.since));
      if (one.textContent !== text) one.textContent = text;
    }
  };
  setInterval(tick, 1000);

  // -- pieces ------------------------------------------------------------------------------------------------------
  const made = (html) => {
    const frame = document.createElement("template");
    frame.innerHTML = html;
    return frame.content.firstElementChild;
  };
  const foldings = (root) => [root, ...root.querySelectorAll("details")].filter((one) => one.tagName === "DETAILS");
  const named = (one) => one.id || one.dataset.keep || "";
  // What the visitor opened or closed, where they are, and how far they have scrolled in it stays as it is.
  const replace = (old, fresh) => {
    const open = new Map(foldings(old).map((one) => [named(one), one.open]));
    for (const one of foldings(fresh)) if (open.has(named(one))) one.open = open.get(named(one));
    const focus = old.contains(document.activeElement) ? stops(old).indexOf(document.activeElement) : -1;
    const scrolled = [...old.querySelectorAll("pre")].map((one) => one.scrollTop);
    old.replaceWith(fresh);
    [...fresh.querySelectorAll("pre")].forEach((one, at) => { if (scrolled[at]) one.scrollTop = scrolled[at]; });
    if (focus >= 0) stops(fresh)[focus]?.focus({ preventScroll: true });
    if (window.htmx) window.htmx.process(fresh);
  };
  const stops = (root) => [root, ...root.querySelectorAll("*")].filter((one) => one.matches("a[href], button, summary, [tabindex]"));
  const put = ({ id, html, add }) => {
    const fresh = made(html), old = document.getElementById(id);
    if (!fresh) return false;
    if (old) { replace(old, fresh); return false; }
    if (!add) return false;
    story.append(fresh);
    if (window.htmx) window.htmx.process(fresh);
    return true;
  };

  // -- following ---------------------------------------------------------------------------------------------------
  const atEnd = () => story.getBoundingClientRect().bottom <= window.innerHeight + 160;
  const toEnd = () => window.scrollBy({ top: story.getBoundingClientRect().bottom - window.innerHeight + 80 });
  newest?.addEventListener("click", () => { toEnd(); newest.hidden = true; });
  addEventListener("scroll", () => { if (newest && !newest.hidden && atEnd()) newest.hidden = true; }, { passive: true });

  // -- plot --------------------------------------------------------------------------------------------------------
  const place = document.getElementById("plot");
  const says = document.getElementById("plot-says");
  const turns = new Map(); // number: [number, read, cached, written]
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (value) => (value >= 1e6 ? `${value / 1e6}M` : value >= 1e3 ? `${value / 1e3}k` : `${value}`);
  let plot = null;
  const data = () => {
    const rows = [...turns.values()].sort((one, other) => one[0] - other[0]);
    return [rows.map((row) => row[0]), rows.map((row) => row[1]), rows.map((row) => row[2]),
      rows.map((row) => (row[2] === null || !row[1] ? null : (100 * row[2]) / row[1]))];
  };
  const say = (at) => {
    const numbers = [...turns.keys()].sort((one, other) => one - other);
    const row = turns.get(at === null || at === undefined ? numbers[numbers.length - 1] : numbers[at]);
    if (!row) return;
    const share = row[2] === null || !row[1] ? "" : `, ${Math.round((100 * row[2]) / row[1])} % cached`;
    says.textContent = `Turn ${row[0]}: ${row[1].toLocaleString("en")} read${share}, ${row[3].toLocaleString("en")} written`;
  };
  const bars = (fill) => ({ fill, width: 0, paths: window.uPlot.paths.bars({ size: [0.75, 40] }), points: { show: false } });
  const axis = (more) => ({ stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui", labelFont: "11px system-ui", labelSize: 16, labelGap: 0, ...more });
  const draw = () => {
    if (!window.uPlot || !place) return;
    if (plot) plot.destroy();
    plot = new window.uPlot({
      width: place.clientWidth, height: place.clientHeight, legend: { show: false }, padding: [8, 0, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      hooks: { setCursor: [(one) => say(one.cursor.idx)] },
      scales: { x: { time: false, range: (_, low, high) => [Math.min(low ?? 1, 1) - 0.5, Math.max(high ?? 1, 5) + 0.5] },
        y: { range: (_, __, high) => [0, (high || 1) * 1.08] }, share: { range: [0, 108] } },
      axes: [
        axis({ label: "turn", size: 28, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500], grid: { show: false } }),
        axis({ label: "tokens read", size: 40, values: (_, found) => found.map(short) }),
        axis({ label: "cached, %", scale: "share", side: 1, size: 34, grid: { show: false }, splits: () => [0, 50, 100] }),
      ],
      series: [
        {}, bars(colour("--new")), bars(colour("--cached")),
        { scale: "share", stroke: colour("--share"), width: 1.5, points: { show: turns.size < 40, size: 5, fill: colour("--share") } },
      ],
    }, data(), place);
    say(null);
  };
  const grow = (points) => {
    for (const row of points) turns.set(row[0], row);
    if (points.length && plot) { plot.setData(data()); say(null); }
    else if (points.length) draw();
  };
  if (place) {
    fetch(place.dataset.series, { headers: { Accept: "application/json" } })
      .then((answer) => (answer.ok ? answer.json() : null))
      .then((found) => {
        if (!found) return;
        found.turn.forEach((turn, at) => {
          if (!turns.has(turn)) turns.set(turn, [turn, found.prompt[at], found.cached[at], found.written[at]]);
        });
        draw();
      })
      .catch(() => {}); // the table says the same
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    new ResizeObserver(() => { if (plot) plot.setSize({ width: place.clientWidth, height: place.clientHeight }); }).observe(place);
  }

  // -- the stream --------------------------------------------------------------------------------------------------
  if (!("going" in run.dataset)) return;
  let source = null, last = run.dataset.after, over = false;
  const take = (event) => {
    const said = JSON.parse(event.data), follow = atEnd();
    last = event.lastEventId;
    ahead = said.now - Date.now() / 1000;
    for (const [id, html] of Object.entries(said.beside)) put({ id, html, add: false });
    const added = said.pieces.map(put).some(Boolean);
    grow(said.points);
    tick();
    if (added && follow && window.scrollY > 0) toEnd();
    else if (added && newest && !atEnd()) newest.hidden = false;
  };
  const end = () => {
    over = true;
    source.close();
    live.textContent = "The run has ended.";
    fetch(location.href).then((answer) => answer.text()).then((text) => {
      // The pull request and the patch are known now, and there is nothing to stop.
      const fresh = new DOMParser().parseFromString(text, "text/html").querySelector(".doings");
      if (fresh) document.querySelector(".doings").replaceWith(fresh);
    }).catch(() => {});
  };
  const listen = () => {
    if (source || over) return;
    source = new EventSource(`/runs/${encodeURIComponent(key)}/live?after=${encodeURIComponent(last)}`);
    source.addEventListener("open", () => { live.textContent = "Live: new steps appear by themselves."; });
    source.addEventListener("error", () => {
      live.textContent = "The connection is lost; it is tried again.";
      if (source && source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000); // refused
    });
    source.addEventListener("run", take);
    source.addEventListener("end", end);
    source.addEventListener("again", () => { over = true; source.close(); location.reload(); });
  };
  // A browser has few connections to one server: a page that nobody sees gives its own back.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return listen();
    source?.close();
    source = null;
  });
  if (!document.hidden) listen();
})();
