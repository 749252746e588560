export const config = { api: { bodyParser: { sizeLimit: "64kb" } } };

export default function handler(req, res) {
  const { id } = req.query;
  if (req.method === "PUT") return res.status(201).json({ id, reader: req.body.reader, due: "in four weeks" });
  if (req.method === "GET") return res.json({ id, reader: null });
  res.setHeader("Allow", "GET, PUT");
  return res.status(405).end();
}
