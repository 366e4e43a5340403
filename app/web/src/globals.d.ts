/** Where the server has pdf.js's own files; set by the build. */
declare const PDFJS_FILES: string;
