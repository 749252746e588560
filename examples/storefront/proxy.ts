import { NextResponse, type NextRequest } from "next/server";

/** Before routing: an old address that moved, and a request id for every page. */
export function proxy(request: NextRequest) {
  const moved = /^\/items\/(\d+)$/.exec(request.nextUrl.pathname);
  if (moved) return NextResponse.redirect(new URL(`/products/${moved[1]}`, request.url), 308);

  const requestId = request.headers.get("x-request-id") ?? crypto.randomUUID();
  const headers = new Headers(request.headers);
  headers.set("x-request-id", requestId);
  const response = NextResponse.next({ request: { headers } });
  response.headers.set("x-request-id", requestId);
  response.headers.set("x-storefront-proxy", "1");
  return response;
}

// Not for files, and not for uploads: a body that passes the proxy is buffered up to a limit.
export const config = { matcher: "/((?!_next/|images/|api/upload).*)" };
