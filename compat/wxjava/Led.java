import cn.binarywang.wx.miniapp.api.WxMaService;
import cn.binarywang.wx.miniapp.api.impl.WxMaServiceImpl;
import cn.binarywang.wx.miniapp.config.impl.WxMaDefaultConfigImpl;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import org.apache.http.HttpHost;
import weixin.popular.api.TokenAPI;
import weixin.popular.client.HttpClientFactory;

/** Each client of Java asks the platform's own address for a token, and knows nothing of the server. */
public class Led {
	static final String APPID = System.getenv("QRJUMP_APPID");
	static final String SECRET = System.getenv("QRJUMP_SECRET");
	static final String ADDRESS =
		"https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=" + APPID + "&secret=" + SECRET;

	public static void main(String[] which) throws Exception {
		switch (which[0]) {
			case "connection" -> System.out.println(new String(new URL(ADDRESS).openStream().readAllBytes()));
			case "client" -> System.out.println(HttpClient.newHttpClient()
				.send(HttpRequest.newBuilder(URI.create(ADDRESS)).build(), HttpResponse.BodyHandlers.ofString()).body());
			case "httpclient" -> System.out.println(new String(org.apache.http.impl.client.HttpClientBuilder.create()
				.useSystemProperties().build().execute(new org.apache.http.client.methods.HttpGet(ADDRESS)).getEntity()
				.getContent().readAllBytes()));
			case "wxjava" -> wxJava();
			case "weixin-popular" -> weixinPopular();
			default -> throw new IllegalArgumentException(which[0]);
		}
	}

	static void wxJava() throws Exception {
		WxMaDefaultConfigImpl config = new WxMaDefaultConfigImpl();
		config.setAppid(APPID);
		config.setSecret(SECRET);
		config.setHttpProxyHost(System.getProperty("https.proxyHost"));
		config.setHttpProxyPort(Integer.getInteger("https.proxyPort", 0));
		WxMaService service = new WxMaServiceImpl();
		service.setWxMaConfig(config);
		System.out.println(service.getAccessToken());
	}

	static void weixinPopular() {
		HttpClientFactory.setProxy(new HttpHost(System.getProperty("https.proxyHost"), Integer.getInteger("https.proxyPort")));
		System.out.println(TokenAPI.token(APPID, SECRET).getAccess_token());
	}
}
