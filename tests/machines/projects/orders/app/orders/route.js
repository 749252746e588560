/** Writes each order down once it is done, so that one that was carried out twice can be counted. */
export async function POST(request) {
  const { id, ms } = await request.json();
  await new Promise((done) => setTimeout(done, ms));
  console.log(`order ${id}`);
  return Response.json({ id });
}
