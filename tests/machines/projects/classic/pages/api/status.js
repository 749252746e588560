export default function handler(req, res) {
  res.setHeader("Cache-Control", "no-store");
  res.json({ ok: true, pid: process.pid, greeting: process.env.LIBRARY_GREETING ?? null });
}
