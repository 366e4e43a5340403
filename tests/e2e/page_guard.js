// Put into a page before any other script: tells `__report` of whatever untrusted text must never
// bring about there. Elements and attributes are checked against what the app itself is made of.
(() => {
  const tell = window.__report;
  const report = (text) => {
    window.__reported = (window.__reported ?? 0) + 1;
    void tell(text);
  };
  const words = (text) => new Set(text.trim().split(/\s+/));
  // What Markdown of an answer may become; the button and the icon are of citations and code.
  const MARKDOWN = words(`div p h3 h4 ul ol li blockquote code pre hr br strong em del a span button
    table thead tbody tr th td input svg path`);
  const APP = words(`${[...MARKDOWN].join(" ")} html head title body main header footer nav
    section article aside search h1 h2 sup small i dl dt dd form fieldset legend label select option optgroup
    datalist textarea progress meter details summary figure figcaption mark time dialog canvas rect`);
  const ATTRIBUTES = words(`accept autocomplete autofocus checked class d datetime dir disabled fill
    for form height hidden href id inputmode label lang list max maxlength min multiple name open placeholder
    preserveAspectRatio readonly rel required role rows scope size start step stroke stroke-linecap stroke-linejoin
    stroke-width style tabindex target title type value viewBox webkitdirectory width x y`);
  const STYLES = words(`left top width height min-width min-height max-width inset-inline-start
    grid-template-columns --zoom --total-scale-factor --scale-factor --scale-round-x --scale-round-y
    --viewer-width --font-height --scale-x --rotate --min-font-size --min-font-size-inv font-family
    transform`);
  const OWN_IDS = {
    app: (element) => element.parentNode === document.body,
    main: (element) => element.localName === "main",
    "citation-quote": (element) => element.role === "tooltip",
  };
  const OWN_NAMES = words("scope theme");
  const HEAD = { META: "content", LINK: "href", SCRIPT: "src" };

  const isOwnFile = (address) => {
    const { origin, pathname } = new URL(address, location.href);
    return origin === location.origin && /^\/(assets\/|favicon\.svg$)/.test(pathname);
  };
  function isSafeLink(element, href) {
    if (/^(\/(?![/\\])|#main$)/.test(href)) return true;
    const isOut = element.target === "_blank" && /noopener noreferrer/.test(element.rel);
    return isOut && /^(https?:\/\/|mailto:)/.test(href);
  }
  const OWN_ID = /^([a-z-]+-(title|form|models)|P[\d-]+(-note|-known)?)$/;
  const RULES = {
    class: (element, value) => /^[\w\s-]*$/.test(value),
    href: isSafeLink,
    id: (element, value) => OWN_IDS[value]?.(element) ?? OWN_ID.test(value),
    form: (element, value) => OWN_ID.test(value),
    name: (element, value) => OWN_NAMES.has(value),
    style: ({ style }, value) =>
      [...style].every((name) => STYLES.has(name)) && !/url\(/i.test(style.cssText) && (style.length > 0 || value === ""),
    target: (element, value) => value === "_blank",
  };

  function isOfPage(element) {
    if (element.tagName === "NOSCRIPT") return element.textContent === "Footnote needs JavaScript.";
    const attribute = HEAD[element.tagName];
    if (attribute === undefined || element.parentNode !== document.head) return false;
    if (element.tagName === "META") return element.hasAttribute("charset") || /^(viewport|color-scheme)$/.test(element.name);
    return isOwnFile(element.getAttribute(attribute) ?? "") && element.textContent === "";
  }
  function check(element) {
    if (isOfPage(element)) return;
    const isPicture = element.localName === "img" && /^blob:/.test(element.getAttribute("src") ?? "blob:");
    const allowed = element.closest(".markdown") ? MARKDOWN : APP;
    if (!isPicture && !allowed.has(element.localName)) report(`element ${element.outerHTML.slice(0, 300)}`);
    for (const { name, value } of element.attributes) {
      if (/^(aria|data)-[a-z-]+$/.test(name) || (isPicture && /^(src|alt|decoding|draggable)$/.test(name))) continue;
      const isGood = ATTRIBUTES.has(name) && (RULES[name]?.(element, value) ?? true);
      if (!isGood) report(`attribute ${name}=${value} of ${element.outerHTML.slice(0, 300)}`);
    }
  }
  function checkAll(node) {
    if (!(node instanceof Element)) return;
    check(node);
    for (const each of node.querySelectorAll("*")) check(each);
  }
  const seen = (changes) => {
    for (const { type, target, addedNodes } of changes) {
      if (type === "attributes") check(target);
      else addedNodes.forEach(checkAll);
    }
  };
  new MutationObserver(seen).observe(document, { subtree: true, childList: true, attributes: true });

  Object.defineProperty(window, "__xss", { set: () => report("a script ran"), get: () => undefined });
  document.addEventListener("securitypolicyviolation", (event) =>
    report(`policy ${event.violatedDirective}: ${event.blockedURI} ${event.sample}`),
  );
})();
