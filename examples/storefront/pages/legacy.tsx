import type { GetServerSideProps, InferGetServerSidePropsType } from "next";
import { type Stamp, stamp } from "@/lib/stamp";

/** The Pages Router, beside the App Router: rendered for every request. */
export const getServerSideProps: GetServerSideProps<{ stamp: Stamp; agent: string }> = async ({ req }) => ({
  props: { stamp: stamp("/legacy"), agent: req.headers["user-agent"] ?? "unknown" },
});

export default function Legacy({ stamp, agent }: InferGetServerSidePropsType<typeof getServerSideProps>) {
  return (
    <main>
      <h1>Legacy</h1>
      <p>Pages Router, getServerSideProps, for {agent}</p>
      <p data-render={stamp.id}>
        rendered {stamp.at} by release {stamp.release}
      </p>
    </main>
  );
}
