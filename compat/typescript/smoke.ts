// Typical first calls with a generated client: read, write, scan, and read an error.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";
import type { paths as wirePaths } from "./wire.js";

declare const process: { env: Record<string, string | undefined>; exit(code: number): never };
declare const console: { log(text: string): void; error(...values: unknown[]): void };

const client = createClient<paths>({ baseUrl: process.env.QRJUMP_URL! });

function want(name: string, ok: boolean, got: unknown): void {
  if (!ok) {
    console.error(name, JSON.stringify(got));
    process.exit(1);
  }
}

const accounts = await client.GET("/admin/v1/accounts");
const appids: string[] = accounts.data?.accounts?.map((a) => a.appid) ?? [];
want("accounts", appids.includes("wxc0ffee0000000001"), accounts.error);

const missing = await client.GET("/admin/v1/accounts/{appid}", { params: { path: { appid: "nobody" } } });
want("a missing account has a problem with its status", missing.response.status === 404 && missing.error?.status === 404, missing);

const put = await client.PUT("/admin/v1/accounts/{appid}", {
  params: { path: { appid: "wxtypescript" } },
  body: { kind: "mini_program", name: "Typed" },
});
want("an account is created", put.data !== undefined, put.error);

const settings = await client.GET("/admin/v1/settings");
want("settings", typeof settings.data?.publish_quota === "number", settings);

const decision = await client.POST("/scan/v1/resolve", { body: { text: "https://nobody.example/t/7", user: "alice" } });
want("a scan", decision.data?.action === "open_url" && decision.data.url === "https://nobody.example/t/7", decision);

const explained = await client.POST("/scan/v1/explain", { body: { text: "https://nobody.example/t/7" } });
want("an explanation", Array.isArray(explained.data?.steps), explained);

const wire = createClient<wirePaths>({ baseUrl: process.env.QRJUMP_URL! });
const token = await wire.GET("/cgi-bin/token", {
  params: {
    query: { grant_type: "client_credential", appid: "wxc0ffee0000000001", secret: "c0ffee00000000000000000000000001" },
  },
});
const access_token = token.data?.access_token ?? "";
const rules = await wire.POST("/cgi-bin/wxopen/qrcodejumpget", { params: { query: { access_token } }, body: {} });
want("rules of the platform API", rules.data?.errcode === 0, rules);
console.log("ok");
