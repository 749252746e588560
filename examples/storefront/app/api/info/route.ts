import { connection } from "next/server";
import { release } from "@/lib/stamp";

/** Which release, build and process answered. */
export async function GET() {
  await connection();
  return Response.json({
    release: release(),
    deploymentId: process.env.NEXT_DEPLOYMENT_ID || null,
    instance: process.env.ROADBED_INSTANCE ?? null,
    pid: process.pid,
    node: process.version,
    uptime: Math.round(process.uptime()),
  });
}
