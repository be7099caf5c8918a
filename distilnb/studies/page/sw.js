// Keeps the page for when there is no network, and lets it use several threads where the server does not say so.
const CACHE = "distilnb-demo-BUILD";
const SHELL = ["./", "index.html", "demo.css", "demo.js", "worker.js", "stopwatch.js", "demo.json"];

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL)));
});

self.addEventListener("activate", (event) => event.waitUntil((async () => {
  for (const name of await caches.keys()) {
    if (name.startsWith("distilnb-demo-") && name !== CACHE) await caches.delete(name);
  }
  await self.clients.claim();
})()));

function isolated(answer) { // memory that threads share is allowed only to pages that say this
  const headers = new Headers(answer.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith((async () => {
    const cache = await caches.open(CACHE);
    const kept = await cache.match(request, { ignoreSearch: true });
    return isolated(kept ?? await fetch(request));
  })());
});
