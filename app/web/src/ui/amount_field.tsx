import { type Amount, readAmount } from "../text/amount";
import { formatDecimal, formatExactUsd } from "../text/format";
import { Field } from "./field";

interface Props {
  label: string;
  hint: string;
  typed: string;
  /** How many decimals there may be. */
  places: number;
  isUsd?: boolean;
  required?: boolean;
  onType: (typed: string) => void;
}

/** A number; says what it is understood as, or how to write it. */
export function AmountField({ label, hint, typed, places, isUsd = false, required, onType }: Props) {
  const amount = readAmount(typed, places);
  return (
    <Field
      label={label}
      hint={[understood(amount, isUsd), hint].filter(Boolean).join(" ")}
      error={amount.problem}
      inputMode={places > 0 ? "decimal" : "numeric"}
      autocomplete="off"
      required={required}
      maxLength={30}
      value={typed}
      onInput={(event) => onType(event.currentTarget.value)}
    />
  );
}

/** "That is US$1,000.50." in the reader's own way of writing numbers. Empty for none. */
export function understood({ value }: Amount, isUsd = false): string {
  if (value === null) return "";
  return `That is ${isUsd ? formatExactUsd(value) : formatDecimal(value)}.`;
}
