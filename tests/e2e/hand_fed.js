// Put into a page before any other script: its event streams are fed by the test, frame by frame,
// and what is to be drawn at the next screen refresh is drawn at once, so that each state is there.
(() => {
  const channel = new MessageChannel();
  const waiting = [];
  channel.port1.onmessage = () => waiting.shift()?.(performance.now());
  window.requestAnimationFrame = (callback) => {
    waiting.push(callback);
    channel.port2.postMessage(null);
    return 0;
  };
  window.cancelAnimationFrame = () => undefined;
  const drawn = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));

  window.__streams = [];
  window.EventSource = class {
    static CLOSED = 2;
    readyState = 1;
    constructor(url) {
      this.url = url;
      window.__streams.push(this);
    }
    close() {
      this.readyState = 2;
    }
    async feed(frames) {
      this.onopen?.();
      for (const [index, frame] of frames.entries()) {
        this.onmessage?.({ data: JSON.stringify(frame), lastEventId: String(index + 1) });
        await drawn();
      }
    }
  };
})();
