import { cpSync, readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { defineConfig, type Plugin } from "vite";

// The address of this page stays the request's own: the API refuses other pages.
const API = { target: process.env.API ?? "http://127.0.0.1:8000", changeOrigin: false };
const PDFJS = resolve(import.meta.dirname, "node_modules/pdfjs-dist");
const pdfjsVersion: string = JSON.parse(readFileSync(resolve(PDFJS, "package.json"), "utf8")).version;

const PDFJS_FILES = `/pdfjs/${pdfjsVersion}/`;
const PDFJS_FOLDERS = ["cmaps", "standard_fonts", "wasm", "iccs"];

/** What pdf.js loads by itself for some files: character maps, fonts, decoders. */
function pdfjsFiles(): Plugin {
  let outDir: string | null = null;
  return {
    name: "pdfjs-files",
    configResolved(config) {
      if (config.command === "build") outDir = resolve(config.root, config.build.outDir);
    },
    closeBundle() {
      if (outDir === null) return;
      for (const folder of PDFJS_FOLDERS) {
        cpSync(resolve(PDFJS, folder), resolve(outDir, "pdfjs", pdfjsVersion, folder), { recursive: true });
      }
    },
    configureServer(server) {
      const namesIn = (folder: string) => readdirSync(resolve(PDFJS, folder)).map((name) => `/${folder}/${name}`);
      const known = new Map(PDFJS_FOLDERS.flatMap(namesIn).map((name) => [name, resolve(PDFJS, name.slice(1))]));
      server.middlewares.use(PDFJS_FILES.slice(0, -1), (request, response, next) => {
        const path = known.get(new URL(request.url ?? "/", "http://localhost").pathname);
        if (path === undefined) return next();
        if (path.endsWith(".wasm")) response.setHeader("Content-Type", "application/wasm");
        response.end(readFileSync(path));
      });
    },
  };
}

export default defineConfig({
  plugins: [pdfjsFiles()],
  define: { PDFJS_FILES: JSON.stringify(PDFJS_FILES) },
  // Loaded late: found only then, it would make the development server reload the page.
  optimizeDeps: { include: ["pdfjs-dist"] },
  build: {
    target: "es2022",
    // An inlined file would be a `data:` address, which the content security policy forbids.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    license: { fileName: "LICENSES.md" },
  },
  server: { proxy: { "/api": API, "/health": API } },
});
