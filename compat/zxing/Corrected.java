import com.google.zxing.BinaryBitmap;
import com.google.zxing.ReaderException;
import com.google.zxing.Result;
import com.google.zxing.ResultMetadataType;
import com.google.zxing.client.j2se.BufferedImageLuminanceSource;
import com.google.zxing.common.HybridBinarizer;
import com.google.zxing.qrcode.QRCodeReader;
import java.io.File;
import javax.imageio.ImageIO;

/** Prints for each picture the number of corrected codewords and the text, or "unreadable". */
public class Corrected {
  public static void main(String[] files) throws Exception {
    for (String file : files) {
      try {
        Result r = new QRCodeReader().decode(
            new BinaryBitmap(new HybridBinarizer(new BufferedImageLuminanceSource(ImageIO.read(new File(file))))));
        System.out.println(r.getResultMetadata().get(ResultMetadataType.ERRORS_CORRECTED) + " " + r.getText());
      } catch (ReaderException e) {
        System.out.println("unreadable");
      }
    }
  }
}
