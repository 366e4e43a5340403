/**
 * The one door through which this app makes a string into a script's address: the worker of pdf.js.
 * The content security policy allows no other policy, and no string as HTML at all.
 */
interface Policy {
  createScriptURL(url: string): string;
}

const factory = (window as unknown as { trustedTypes?: { createPolicy(name: string, rules: Policy): Policy } })
  .trustedTypes;

const rules: Policy = {
  createScriptURL(url) {
    const { origin, pathname } = new URL(url, window.location.href);
    // The development server has it where npm put it.
    const folder = import.meta.env.DEV ? "/node_modules/pdfjs-dist/" : "/assets/";
    if (origin !== window.location.origin || !pathname.startsWith(folder)) throw new TypeError("not a script of ours");
    return url;
  },
};

const policy = factory?.createPolicy("footnote", rules) ?? rules;

export const ownScript = (url: string): string => policy.createScriptURL(url);
