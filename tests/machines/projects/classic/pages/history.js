import fs from "fs";
import path from "path";

export default function History({ paragraphs }) {
  return (
    <article data-paragraphs={paragraphs.length}>
      {paragraphs.map((text) => (
        <p key={text}>{text}</p>
      ))}
    </article>
  );
}

export async function getStaticProps() {
  const folder = path.join(process.cwd(), process.env.CONTENT_FOLDER ?? "content");
  const text = fs.readFileSync(path.join(folder, "history.md"), "utf8");
  return { props: { paragraphs: text.trim().split("\n\n") } };
}
