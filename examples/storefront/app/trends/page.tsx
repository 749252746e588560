import { cacheLife, cacheTag } from "next/cache";
import { connection } from "next/server";
import { StampLine } from "@/components/stamp-line";
import { stamp } from "@/lib/stamp";

/** The result of this function is cached by its arguments: the `'use cache'` directive. */
async function trending(section: string) {
  "use cache";
  cacheTag("trends", `trends-${section}`);
  cacheLife({ stale: 30, revalidate: 60, expire: 3600 });
  return { section, ...stamp(`trends ${section}`) };
}

export default async function TrendsPage() {
  await connection();
  const sections = await Promise.all(["tools", "lamps"].map(trending));
  return (
    <main>
      <h1>Trends</h1>
      {sections.map(({ section, id, at }) => (
        <p key={section} data-trend={`${section}:${id}`}>
          {section}, computed {at}
        </p>
      ))}
      <StampLine stamp={stamp("/trends")} />
    </main>
  );
}
