// Put into a page before any other script: what an injected script would try. Here, because what
// Playwright evaluates by itself is exempt from the page's policy.
(() => {
  const add = (name, properties, parent = document.body) => {
    const element = document.createElement(name);
    parent.append(Object.assign(element, properties));
    return element;
  };
  const RUN = "window.__ran = true";
  const scripts = {
    element: () => add("script").append(RUN),
    text: () => add("script", { text: RUN }),
    address: (origin) => add("script", { src: `${origin}/a.js` }),
    "own address": () => add("script", { src: "/health" }),
    module: (origin) => import(`${origin}/a.js`),
    eval: () => eval(RUN),
    Function: () => new Function(RUN)(),
    timer: () => setTimeout(RUN),
    handler: () => {
      document.body.setAttribute("onclick", RUN);
      document.body.click();
    },
    "javascript link": () => add("a", { href: `javascript:${RUN}` }).click(),
    "javascript frame": () => add("iframe", { src: `javascript:parent.${RUN}` }),
    innerHTML: () => (add("p").innerHTML = `<img src=x onerror="${RUN}">`),
    outerHTML: () => (add("p").outerHTML = "<b>x</b>"),
    insertAdjacentHTML: () => document.body.insertAdjacentHTML("beforeend", "<b>x</b>"),
    "document.write": () => document.write("<b>x</b>"),
    DOMParser: () => new DOMParser().parseFromString("<b>x</b>", "text/html"),
    fragment: () => new Range().createContextualFragment("<b>x</b>"),
    srcdoc: () => add("iframe", { srcdoc: `<script>parent.${RUN}</script>` }),
    setHTMLUnsafe: () => document.body.setHTMLUnsafe("<b>x</b>"),
    "another policy": () => trustedTypes.createPolicy("another", { createHTML: (text) => text }),
    "the policy again": () => trustedTypes.createPolicy("footnote", { createHTML: (text) => text }),
    "default policy": () => trustedTypes.createPolicy("default", { createHTML: (text) => text }),
    worker: () => new Worker(URL.createObjectURL(new Blob([RUN]))),
    "foreign worker": (origin) => new Worker(`${origin}/worker.js`),
  };
  const loads = {
    image: (origin) => (new Image().src = `${origin}/image`),
    fetch: (origin) => fetch(`${origin}/fetch`),
    "fetch that reads nothing": (origin) => fetch(`${origin}/fetch`, { mode: "no-cors" }),
    beacon: (origin) => navigator.sendBeacon(`${origin}/beacon`, "x"),
    "event source": (origin) => new EventSource(`${origin}/events`),
    "web socket": (origin) => new WebSocket(`${origin.replace("http", "ws")}/socket`),
    frame: (origin) => add("iframe", { src: `${origin}/frame` }),
    object: (origin) => add("object", { data: `${origin}/object` }),
    "style sheet": (origin) => add("link", { rel: "stylesheet", href: `${origin}/css` }, document.head),
    "style element": (origin) => add("style").append(`body { background: url(${origin}/style) }`),
    "style attribute": (origin) => document.body.setAttribute("style", `background: url(${origin}/attribute)`),
    "style by script": (origin) => (document.body.style.backgroundImage = `url(${origin}/style)`),
    font: (origin) => new FontFace("x", `url(${origin}/font)`).load(),
    video: (origin) => add("video", { src: `${origin}/video` }),
    prefetch: (origin) => add("link", { rel: "prefetch", href: `${origin}/prefetch` }, document.head),
    form: (origin) => add("form", { action: `${origin}/form`, method: "post" }).submit(),
    base: (origin) => add("base", { href: `${origin}/` }, document.head),
  };

  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

  // Whether the browser refused it: by an exception, or by a report of the policy.
  async function isRefused(attempt, origin) {
    const before = window.__reported ?? 0;
    try {
      await Promise.race([Promise.resolve(attempt(origin)), wait(2000)]);
    } catch {
      return true;
    }
    for (let tries = 0; tries < 40 && (window.__reported ?? 0) === before; tries += 1) await wait(25);
    return (window.__reported ?? 0) > before;
  }
  // The names of the attempts that were not refused.
  window.__try = (kind, origin) =>
    new Promise((done) => {
      setTimeout(async () => {
        const made = [];
        for (const [name, attempt] of Object.entries(kind === "scripts" ? scripts : loads)) {
          if (!(await isRefused(attempt, origin))) made.push(name);
        }
        done(window.__ran ? [...made, "one of them ran"] : made);
      });
    });
})();
