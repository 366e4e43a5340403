import { api, read, type Schemas } from "../api/client";
import { useLoaded } from "../api/use_loaded";
import { formatBytes, formatMoment, formatNumber } from "../text/format";
import { ErrorState } from "../ui/states";
import { Badge } from "./status";

type Version = Schemas["DocumentVersionOut"];

const UNKNOWN = "–";
const STATUS_WORDS = { queued: "Queued", processing: "Processing", ready: "Ready", failed: "Failed" } as const;

/** The contents that a document has had, newest first. */
export function VersionsTable({ documentId }: { documentId: string }) {
  const params = { path: { document_id: documentId } };
  const { data, error, reload } = useLoaded(() =>
    read(api.GET("/api/v1/documents/{document_id}/versions", { params })),
  );
  if (!data && !error) return null;
  return (
    <section class="card versions" aria-labelledby="versions-title">
      <h2 id="versions-title">Versions</h2>
      {error !== null && <ErrorState error={error} onRetry={reload} />}
      {data && <Rows versions={data.items} />}
    </section>
  );
}

function Rows({ versions }: { versions: readonly Version[] }) {
  return (
    <table aria-labelledby="versions-title">
      <thead>
        <tr>
          <th scope="col">Version</th>
          <th scope="col">File</th>
          <th scope="col">Status</th>
          <th scope="col" class="number">
            Pages
          </th>
          <th scope="col" class="number">
            Size
          </th>
          <th scope="col">Uploaded</th>
        </tr>
      </thead>
      <tbody>
        {versions.map((each) => (
          <Row key={each.version} version={each} />
        ))}
      </tbody>
    </table>
  );
}

function Row({
  version: { version, filename, status, error_code, page_count, size_bytes, uploaded_at, is_served },
}: {
  version: Version;
}) {
  const isSuperseded = error_code === "superseded";
  const words = is_served ? "Ready, in use" : STATUS_WORDS[status];
  return (
    <tr>
      <th scope="row">{formatNumber(version)}</th>
      <td class="clip" dir="auto" title={filename}>
        {filename}
      </td>
      <td>
        <Badge kind={isSuperseded ? "queued" : status}>{isSuperseded ? "Replaced before it was ready" : words}</Badge>
      </td>
      <td class="number">{page_count === null ? UNKNOWN : formatNumber(page_count)}</td>
      <td class="number">{size_bytes === null ? UNKNOWN : formatBytes(size_bytes)}</td>
      <td>{formatMoment(uploaded_at)}</td>
    </tr>
  );
}
