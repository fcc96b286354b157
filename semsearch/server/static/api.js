// Requests to the server that the page is from.

const KEY = "semsearch-key";
const TRIES = 5;

/** What went wrong, in words for who reads the page. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const setKey = (key) => sessionStorage.setItem(KEY, key);
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

/** The answer to a GET. A server without room, or that is still making what is asked for, is asked again. */
export async function ask(path, parameters, signal) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined) query.append(name, one);
    }
  }
  const headers = hasKey() ? { "X-API-Key": sessionStorage.getItem(KEY) } : {};
  for (let attempt = 1; ; attempt += 1) {
    const response = await fetch(`${path}?${query}`, { headers, signal }).catch((error) => {
      if (signal?.aborted) throw error;
      throw new ApiError("The server does not answer. See whether “semsearch serve” is still running.", 0);
    });
    const wait = Number(response.headers.get("Retry-After")) || 1;
    if (response.status === 202 || (response.status === 503 && attempt < TRIES)) {
      await pause(wait, signal);
      continue;
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new ApiError(answer.error?.message ?? `The server answers ${response.status}.`, response.status);
    return answer;
  }
}

/** Asks one thing at a time: what is asked anew makes the answer to the last question nobody's. */
export class Latest {
  #controller = new AbortController();

  async run(work, show, fail) {
    this.stop();
    const { signal } = (this.#controller = new AbortController());
    try {
      const answer = await work(signal);
      if (!signal.aborted) show(answer);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) console.error(error);
      fail(error);
    }
  }

  stop() {
    this.#controller.abort(new DOMException("there is a newer question", "AbortError"));
  }
}
