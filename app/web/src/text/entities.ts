const NAMED: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00A0",
  ndash: "\u2013",
  mdash: "\u2014",
  hellip: "\u2026",
  euro: "\u20AC",
  pound: "\u00A3",
  deg: "\u00B0",
  times: "\u00D7",
};
const ENTITY = /&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-z]{2,6}));/g;
const LAST_CODE_POINT = 0x10ffff;

/** Character references as they are common in Markdown; unknown ones stay as they are. */
export function decodeEntities(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(ENTITY, (whole, decimal?: string, hexadecimal?: string, name?: string) => {
    if (name !== undefined) return NAMED[name] ?? whole;
    const code = decimal === undefined ? parseInt(hexadecimal ?? "0", 16) : Number(decimal);
    // A reference must not forge a mark, which is made of private-use characters.
    const isPlain =
      code > 0 && code <= LAST_CODE_POINT && !(code >= 0xe000 && code <= 0xf8ff) && !(code >= 0xd800 && code <= 0xdfff);
    return isPlain ? String.fromCodePoint(code) : "\uFFFD";
  });
}
