export default async function handler(req, res) {
  if (req.method !== "POST") return res.status(405).json({ error: "POST only" });
  try {
    await res.revalidate(req.body.path);
    return res.json({ revalidated: req.body.path });
  } catch (error) {
    return res.status(500).json({ error: String(error.message) });
  }
}
