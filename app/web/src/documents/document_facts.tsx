import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { formatBytes, formatDay, formatMoment, formatNumber } from "../text/format";
import { tellError } from "../ui/toast";
import { type DocumentOut, patchDocument } from "./actions";
import { Expiry } from "./expiry";
import { TagsEditor } from "./tags_editor";
import { VisibilityFact } from "./visibility";

const OFFICE = "application/vnd.openxmlformats-officedocument";
const NAMES: Record<string, string> = {
  "application/pdf": "PDF",
  [`${OFFICE}.wordprocessingml.document`]: "Word",
  [`${OFFICE}.presentationml.presentation`]: "PowerPoint",
  [`${OFFICE}.spreadsheetml.sheet`]: "Excel",
  "application/epub+zip": "EPUB",
  "message/rfc822": "E-mail",
  "text/html": "Web page",
  "text/markdown": "Markdown",
  "text/plain": "Text",
  "text/csv": "CSV",
  "text/tab-separated-values": "TSV",
  "application/json": "JSON",
  "application/x-ndjson": "JSON lines",
};

interface Props {
  document: DocumentOut;
  onChanged: (document: DocumentOut) => void;
}

export function DocumentFacts({ document, onChanged }: Props) {
  const { media_type, size_bytes, page_count, chunk_count, created_at, version, metadata } = document;
  return (
    <section class="card document-facts" aria-label="Facts">
      <dl class="facts">
        <Fact label="Type">{typeName(media_type)}</Fact>
        <Fact label="Size">{formatBytes(size_bytes)}</Fact>
        <Fact label="Pages">{page_count === null ? "Not known yet" : formatNumber(page_count)}</Fact>
        <Fact label="Passages">{formatNumber(chunk_count)}</Fact>
        <Fact label="Added">
          <time dateTime={created_at} title={formatMoment(created_at)}>
            {formatDay(created_at)}
          </time>
        </Fact>
        <Fact label="Version">{formatNumber(version)}</Fact>
        <Fact label="Visible to">
          <VisibilityFact document={document} onChanged={onChanged} />
        </Fact>
        <Fact label="Is deleted by itself">
          <Expiry document={document} onChanged={onChanged} />
        </Fact>
      </dl>
      <Tags document={document} onChanged={onChanged} />
      <Metadata metadata={metadata} />
    </section>
  );
}

function Fact({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd dir="auto">{children}</dd>
    </div>
  );
}

/** Each change is saved at once. */
function Tags({ document, onChanged }: Props) {
  const [tags, setTags] = useState<readonly string[]>(document.tags);
  const stored = document.tags.join("\n");
  const saving = useRef({ last: Promise.resolve(), number: 0 }).current;
  useEffect(() => {
    if (saving.number === 0) setTags(document.tags);
  }, [stored]);

  /** One after the other, and only the last answer counts: each says all tags. */
  function save(next: readonly string[]) {
    setTags(next);
    saving.number += 1;
    saving.last = saving.last.then(async () => {
      try {
        const saved = await patchDocument(document.id, { tags: [...next] });
        if (saving.number === 1) onChanged(saved);
      } catch (error) {
        setTags(document.tags);
        tellError(error);
      }
      saving.number -= 1;
    });
  }

  return (
    <div>
      <h2>Tags</h2>
      <TagsEditor tags={tags} onChange={save} />
    </div>
  );
}

function Metadata({ metadata }: Pick<DocumentOut, "metadata">) {
  const entries = Object.entries(metadata);
  if (entries.length === 0) return null;
  return (
    <div>
      <h2>Metadata</h2>
      <dl class="facts">
        {entries.map(([key, value]) => (
          <Fact key={key} label={key}>
            {Array.isArray(value) ? value.join(", ") : String(value)}
          </Fact>
        ))}
      </dl>
    </div>
  );
}

/** What people call a type of file. */
function typeName(mediaType: string): string {
  if (mediaType.startsWith("image/")) return `Picture (${mediaType.slice(6).toUpperCase()})`;
  return NAMES[mediaType] ?? mediaType;
}
