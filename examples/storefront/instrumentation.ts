import type { Instrumentation } from "next";

/** Runs once when a server starts, before it answers the first request. */
export function register() {
  console.log(`instrumentation: registered runtime=${process.env.NEXT_RUNTIME}`);
}

/** Every error that a render, route handler, action or the proxy did not catch. */
export const onRequestError: Instrumentation.onRequestError = (error, request, context) => {
  const message = error instanceof Error ? error.message : String(error);
  console.error(`request error: ${request.method} ${request.path} (${context.routePath}): ${message}`);
};
