import Image from "next/image";
import { useRouter } from "next/router";

const words = { en: "Open from nine to five.", de: "Geöffnet von neun bis fünf." };

export default function About() {
  const { locale } = useRouter();
  return (
    <>
      <h1>{words[locale]}</h1>
      <Image src="/library/reading-room.png" alt="The reading room" width={640} height={400} />
    </>
  );
}
