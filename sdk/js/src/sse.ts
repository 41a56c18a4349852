/** Server-sent events out of a `fetch` response: the WHATWG's format, which `EventSource` reads too but without a key. */

export interface ServerSentEvent {
  id: string;
  event: string;
  data: string;
}

/** The events of a body, as they come, until its end; or until the `signal`, or until it was silent for so many seconds. */
export async function* parse(
  body: ReadableStream<Uint8Array>,
  { signal, silence }: { signal?: AbortSignal; silence: number },
): AsyncGenerator<ServerSentEvent> {
  const reader = body.getReader();
  const stop = () => void reader.cancel(signal?.reason).catch(() => undefined);
  signal?.addEventListener("abort", stop, { once: true });
  const decoder = new TextDecoder();
  let text = "";
  let id = "";
  let event = "";
  let data: string[] = [];
  try {
    for (;;) {
      // What is cancelled reads as its end.
      const hush = setTimeout(stop, silence * 1000);
      const { done, value } = await reader.read().finally(() => clearTimeout(hush));
      text += decoder.decode(value, { stream: !done });
      // A lone \r may be the first half of \r\n: the line ends when it is known which.
      const lines = text.split(done ? /\r\n|\n|\r/ : /\r\n|\n|\r(?=[^])/);
      text = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { id, event: event || "message", data: data.join("\n") };
          event = "";
          data = [];
          continue;
        }
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        const content = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "data") data.push(content);
        else if (field === "event") event = content;
        else if (field === "id" && !content.includes("\0")) id = content;
      }
      if (done) return;
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    await reader.cancel().catch(() => undefined);
  }
}
