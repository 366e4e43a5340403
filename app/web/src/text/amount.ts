/** Numbers as people type them: with a point or a comma before decimals, and with digits in groups of three. */

export interface Amount {
  /** A decimal number as the API takes it, such as "1000.5". Null: it is none, or none that is clear. */
  value: string | null;
  /** What is wrong with it. Null also while nothing is typed. */
  problem: string | null;
}

const MAX_DIGITS = 12;
const SPACES = /[\s\u00a0\u2007\u2009\u202f]+/g;
const NOTHING: Amount = { value: null, problem: null };

/** What was typed; at most `places` decimals. One separator before three digits has two meanings, and is refused. */
export function readAmount(typed: string, places: number): Amount {
  // Apostrophes and spaces can only stand between groups.
  const text = typed.trim().replace(SPACES, " ").replaceAll("’", "'");
  if (text === "") return NOTHING;
  const example = places > 0 ? "Write an amount such as 1250 or 7.50." : "Write a whole number such as 1250.";
  const parts = /^([\d.,' ]*?)(?:([.,])(\d*))?$/.exec(text);
  if (!parts || !/\d/.test(text)) return { value: null, problem: example };
  const [, whole = "", separator = "", decimals = ""] = parts;
  if (separator && isGroup(whole, separator, decimals)) {
    if (places > 0 && /^\d+$/.test(whole)) return ambiguous(whole, decimals);
    return checked(digitsOf(text), "", places);
  }
  const isPlain = /^\d*$/.test(whole);
  if (!isPlain && !isGrouped(whole, separator)) return { value: null, problem: example };
  if (places === 0 && separator) return { value: null, problem: example };
  return checked(digitsOf(whole), decimals, places);
}

/** A number of the API as it is typed: never one that has two meanings. */
export function writeAmount(value: string): string {
  const plain = value.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  return /^[1-9]\d{0,2}\.\d{3}$/.test(plain) ? `${plain}0` : plain;
}

/** Whether the last separator is one between groups: "1,000" and "1.000.000" but not "0,125" or "1234,567". */
function isGroup(whole: string, separator: string, last: string): boolean {
  return last.length === 3 && new RegExp(`^[1-9]\\d{0,2}(\\${separator}\\d{3})*$`).test(whole);
}

/** Whether these are groups of three, by a separator that is not the one of the decimals. */
function isGrouped(whole: string, decimalSeparator: string): boolean {
  return [",", ".", "'", " "].some(
    (each) => each !== decimalSeparator && new RegExp(`^[1-9]\\d{0,2}(\\${each}\\d{3})+$`).test(whole),
  );
}

const digitsOf = (text: string): string => text.replace(/\D/g, "");

function ambiguous(whole: string, decimals: string): Amount {
  const small = writeAmount(`${whole}.${decimals}`);
  const problem = `This can be read as ${whole}${decimals} or as ${small}: write one of these.`;
  return { value: null, problem };
}

function checked(whole: string, decimals: string, places: number): Amount {
  if (whole.length > MAX_DIGITS) return { value: null, problem: "This is too large." };
  if (decimals.length > places) return { value: null, problem: `At most ${places} digits stand behind the point.` };
  const digits = whole.replace(/^0+(?=\d)/, "") || "0";
  return { value: decimals ? `${digits}.${decimals}` : digits, problem: null };
}
